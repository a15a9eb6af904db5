"""Measures a row: its contenders take turns (A B A B …), and each goal compares them within the same round."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median

OURS = "batches"

#: The figures of a contender in one round, by name. Higher is better, except for figures that a goal limits.
Figures = dict[str, float]
#: The figures of each contender in each round.
Rounds = list[dict[str, Figures]]


class Unavailable(Exception):
    """The row cannot be measured here. The message says why, and what to install."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The amount of work: 1 for a full measurement, 0 for the minimum that shows that a row works."""

    factor: float = 1.0

    @property
    def small(self) -> bool:
        return self.factor == 0

    def pick(self, full: int, small: int) -> int:
        """The full size multiplied by the factor, but at least the small one."""
        return max(round(full * self.factor), small)


@dataclass(frozen=True, slots=True)
class Contender:
    """`measure` does the work once and returns its figures."""

    name: str
    measure: Callable[[], Figures]


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for a figure of a contender or, with `against`, for its ratio to the best of these others."""

    text: str
    figure: str
    bound: float
    of: str = OURS
    against: tuple[str, ...] = ()
    against_figure: str = ""
    at_most: bool = False

    def values(self, rounds: Rounds) -> list[float]:
        """The values of the rounds that have all parts."""
        return [value for figures in rounds if (value := self._value(figures)) is not None]

    def _value(self, figures: dict[str, Figures]) -> float | None:
        value = figures.get(self.of, {}).get(self.figure)
        if value is None or not self.against:
            return value
        name = self.against_figure or self.figure
        others = [others[name] for other in self.against if name in (others := figures.get(other, {}))]
        return value / max(others) if others else None

    def is_reached(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound


@dataclass(frozen=True, slots=True)
class Contest:
    """The contenders of an open row in the order of their turns. `differs` names the differences between them."""

    contenders: list[Contender]
    goals: list[Goal]
    differs: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. `open` starts what it needs, such as a web server, and stops it afterwards.

    No measurement starts after `minutes`, and a running one is stopped then. One round is enough for a row without
    other contenders, since its measurement repeats everything itself.
    """

    name: str
    title: str
    minutes: float
    open: Callable[[Scale], AbstractContextManager[Contest]]
    rounds: int = 3


def prose(text: str) -> str:
    """Text that was written over several lines, as one line."""
    return " ".join(text.split())


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median, lowest and highest."""
    return median(values), min(values), max(values)

"""Slots: how many requests a domain gets at once, also while several workers check.

A redirect can lead to a domain that another worker owns. Then the worker borrows a slot of it: the owner keeps one of
its slots free, and the database makes sure that only one worker has it. See `queue/loans.py`.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import NamedTuple

from batches.limits import MAX_HOST
from batches.text import clean_text

#: Seconds for which a worker may use a borrowed slot again and again before others that wait get it.
LOAN_SECONDS = 5.0


class Wishes(NamedTuple):
    """What a worker says to the others.

    `wanted` are their domains for which it needs a slot, or is using one. `spare` are its own domains in which it keeps
    a slot free for a worker that waits.
    """

    wanted: frozenset[str] = frozenset()
    spare: frozenset[str] = frozenset()


class Slots:
    """At most `per_domain` slots for each domain of our own, and one for each borrowed domain."""

    def __init__(self, per_domain: int) -> None:
        self._per_domain = per_domain
        self._is_own: Callable[[str], bool] = lambda name: True
        self._on_wish: Callable[[], None] = lambda: None
        self._taken: dict[str, int] = {}
        self._waiting: defaultdict[str, deque[asyncio.Future[None]]] = defaultdict(deque)
        self._borrowed: dict[str, float] = {}  # until when, by `monotonic`
        self._lent: dict[str, bool] = {}  # whether a worker has the slot; otherwise one waits for it

    def share(self, is_own: Callable[[str], bool], on_wish: Callable[[], None]) -> None:
        """Call it before the first check if other workers may check at the same time.

        `on_wish` is called when a check needs a slot of a domain that is not our own. Then exchange the wishes.
        """
        self._is_own, self._on_wish = is_own, on_wish

    def _limit(self, name: str) -> int:
        if self._is_own(name):
            return self._per_domain - (name in self._lent)
        return 1 if monotonic() < self._borrowed.get(name, 0.0) else 0

    def take(self, name: str) -> bool:
        """Whether a slot was free. Call `release` after its use."""
        taken = self._taken.get(name, 0)
        if taken >= self._limit(name):
            return False
        self._taken[name] = taken + 1
        return True

    async def wait(self, name: str) -> None:
        """Wait for a slot that was not free. Call `release` after its use."""
        if not self._is_own(name):
            if clean_text(name, MAX_HOST) != name:
                raise ValueError(f"“{clean_text(name, MAX_HOST)}” is not a valid host name")
            self._on_wish()
        turn = asyncio.get_running_loop().create_future()
        self._waiting[name].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it got its slot at the same moment
                self.release(name)
            raise

    def cancel_waiting(self) -> None:
        """Cancel the checks that wait for slots of others."""
        for name in self._foreign:
            for turn in self._waiting.get(name, ()):
                turn.cancel()

    def release(self, name: str) -> None:
        self._taken[name] -= 1
        if not self._taken[name]:
            del self._taken[name]
        self._assign(name)

    def _assign(self, name: str) -> None:
        """Give free slots to the checks that have waited longest."""
        waiting = self._waiting.get(name)
        while waiting and (waiting[0].done() or self.take(name)):
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
        if not waiting:
            self._waiting.pop(name, None)

    @property
    def in_use(self) -> set[str]:
        """The domains with requests under way. Whoever owns them next cannot know of these, but of loans."""
        return set(self._taken)

    @property
    def is_exchanging(self) -> bool:
        """Whether it waits for something from others, or others from it."""
        return bool(self._lent or self._borrowed or self._foreign)

    @property
    def _foreign(self) -> set[str]:
        waiting = {name for name, turns in self._waiting.items() if not all(turn.done() for turn in turns)}
        return {name for name in {*self._taken, *waiting} if not self._is_own(name)}

    @property
    def spare(self) -> frozenset[str]:
        lent = [name for name, is_granted in self._lent.items() if not is_granted]
        return frozenset(name for name in lent if self._taken.get(name, 0) <= self._limit(name))

    def take_wishes(self) -> Wishes:
        """What to exchange now. Borrowed slots that are left out are not used any more."""
        now = monotonic()
        over = {name for name, until in self._borrowed.items() if until <= now and name not in self._taken}
        wanted = self._foreign - over
        self._borrowed = {name: until for name, until in self._borrowed.items() if name in wanted}
        return Wishes(frozenset(wanted), self.spare)

    def set_loans(self, borrowed: Collection[str], lent: Mapping[str, bool]) -> None:
        """Note the answer to the wishes, after the domains of our own have changed.

        `borrowed` are the domains with a slot for us, `lent` our own that others want, and whether one has a slot.
        """
        until = monotonic() + LOAN_SECONDS
        self._borrowed = {name: self._borrowed.get(name, until) for name in borrowed}
        returned = [name for name, is_granted in self._lent.items() if is_granted and not lent.get(name)]
        self._lent = {name: is_granted for name, is_granted in lent.items() if name not in returned}
        for name in returned:  # our own checks come before the next loan
            self._assign(name)
        self._lent = dict(lent)
        for name in list(self._waiting):
            self._assign(name)

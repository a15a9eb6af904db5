"""Reports the measurements as Markdown, for the terminal and docs/explanation/performance.md, and as a picture."""

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import picture
from benchmarks.commands import ROOT
from benchmarks.frame import Figures, spread
from benchmarks.store import contenders_of, figures_of

PAGE = ROOT / "docs" / "explanation" / "performance.md"
PICTURE = ROOT / "docs" / "explanation" / "performance.svg"
BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
REACHED = {True: "reached", False: "not reached", None: "not measured"}


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def figures_text(figures: Figures) -> str:
    return ", ".join(f"{name} {number(value)}" for name, value in figures.items())


def spread_text(values: Sequence[float]) -> str:
    """The median and, if there are several, the lowest and the highest."""
    middle, lowest, highest = spread(list(values))
    return number(middle) if len(values) == 1 else f"{number(middle)} ({number(lowest)} to {number(highest)})"


def select(content: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """With the rows of these names only, as far as they were measured."""
    return content | {"rows": {name: content["rows"][name] for name in names if name in content["rows"]}}


def count_rounds(row: dict[str, Any]) -> str:
    rounds = len(row["rounds"])
    return f"{rounds} round{'' if rounds == 1 else 's'}"


def goal_text(goal: dict[str, Any]) -> str:
    bound = f"{'≤' if goal['at_most'] else '≥'} {number(goal['bound'])}{' ×' if goal['is_ratio'] else ''}"
    if goal["reached"] is None:
        return f"{bound} {goal['text']}: not measured"
    values = [goal["median"], goal["lowest"], goal["highest"]]
    measured = spread_text(values[:1] if len(set(values)) == 1 else values)
    return f"{bound} {goal['text']}: {measured}, {REACHED[goal['reached']]}"


def publish(content: dict[str, Any]) -> None:
    """Replace the measured part of the page, and draw the picture."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{markdown(content)}\n\n{END}{after}")
    PICTURE.write_text(picture.draw(content))


def markdown(content: dict[str, Any]) -> str:
    machine = ", ".join(f"{name}: {text}" for name, text in content["machine"].items())
    versions = ", ".join(f"{name} {text}" for name, text in content["versions"].items())
    parts = [f"![Speeds]({PICTURE.name})", f"Machine: {machine}.", f"Versions: {versions}.", *_goal_table(content)]
    parts += ["\n".join(_markdown_row(row)) for row in content["rows"].values()]
    return "\n\n".join(parts)


def _goal_table(content: dict[str, Any]) -> Iterator[str]:
    lines = ["| work | goal | measured: median (lowest to highest) | |", "|---|---|--:|---|"]
    for row in content["rows"].values():
        for goal in row["goals"]:
            wanted, _, measured = goal_text(goal).partition(": ")
            value, _, verdict = measured.rpartition(", ")
            lines.append(f"| {row['title']} | {wanted} | {value} | {verdict} |")
        if row["problem"] or not row["goals"]:
            lines.append(f"| {row['title']} | | | {row['problem'] or 'not measured'} |")
    yield "\n".join(lines)


def _markdown_row(row: dict[str, Any]) -> Iterator[str]:
    yield f"### {row['title']}\n"
    yield f"{count_rounds(row)}, commit {row['commit']}. {row.get('differs', '')}\n"
    names = list(dict.fromkeys(name for contender in contenders_of(row) for name in figures_of(row, contender)))
    yield f"| | {' | '.join(names)} |"
    yield f"|---|{'--:|' * len(names)}"
    for contender in contenders_of(row):
        found = figures_of(row, contender)
        yield f"| {contender} | {' | '.join(spread_text(found[name]) if name in found else '' for name in names)} |"
    for contender, problem in row["problems"].items():
        yield f"\n{contender}: {problem}"

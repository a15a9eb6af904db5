"""Draws the picture for the README: bars of the speeds, with a scale for each row, readable on light and dark pages."""

from collections.abc import Iterator
from html import escape
from statistics import median
from typing import Any

from benchmarks.store import contenders_of, figures_of

#: The rows of the picture with the figure that they show.
SHOWN = {
    "checks-postgresql-1": "checks/s",
    "checks-sqlite-1": "checks/s",
    "feeds": "first pass, feeds/s",
    "internet": "feeds/s",
}
#: The contenders that only show limits: they record nothing, or do nothing else.
LIMITS = {"grouped plain SQL", "bare aiohttp loop", "bare curl loop", "bare curl loop without parsing", "ideal"}
LEGEND = "Filled: programs that do the whole work. Outlined: limits; they record nothing, or do nothing but record."
WIDTH, NAMES, BARS = 760, 230, 400
LINE, BAR, GAP, TITLE = 22, 14, 18, 26
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}.ours{fill:#2563ab}.other{fill:#9aa4af}"
    ".limit{fill:none;stroke:#9aa4af}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.ours{fill:#6ea8fe}.other{fill:#5b6570}"
    ".limit{stroke:#5b6570}}"
)


def draw(content: dict[str, Any]) -> str:
    """An SVG document. Rows that were not measured are left out."""
    parts: list[str] = []
    top = 0
    for name, figure in SHOWN.items():
        row = content["rows"].get(name)
        speeds = speeds_of(row, figure) if row else {}
        if speeds:
            parts += _draw_row(f"{row['title']}, {figure.rpartition(', ')[2]}", speeds, top)
            top += TITLE + LINE * len(speeds) + GAP
    if parts:
        parts.append(f'<text x="0" y="{top + 5}">{escape(LEGEND)}</text>')
        top += GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">'
    return "\n".join([head, f"<title>Speeds</title><style>{STYLE}</style>", *parts, "</svg>\n"])


def speeds_of(row: dict[str, Any], figure: str) -> dict[str, float]:
    """The median of each contender, fastest first."""
    found = {contender: figures_of(row, contender) for contender in contenders_of(row)}
    speeds = {contender: median(figures[figure]) for contender, figures in found.items() if figure in figures}
    return dict(sorted(speeds.items(), key=lambda item: -item[1]))


def _draw_row(title: str, speeds: dict[str, float], top: int) -> Iterator[str]:
    yield f'<text class="title" x="0" y="{top + 15}">{escape(title)}</text>'
    longest = max(speeds.values())
    for number, (contender, speed) in enumerate(speeds.items()):
        y = top + TITLE + LINE * number
        width = max(round(BARS * speed / longest), 1)
        kind = "limit" if contender in LIMITS else "ours" if contender.startswith("batches") else "other"
        yield f'<text x="{NAMES - 8}" y="{y + 12}" text-anchor="end">{escape(contender)}</text>'
        yield f'<rect class="{kind}" x="{NAMES}" y="{y}" width="{width}" height="{BAR}" rx="2"/>'
        yield f'<text x="{NAMES + width + 6}" y="{y + 12}">{speed:,.0f}</text>'

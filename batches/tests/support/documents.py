"""The README and the pages of `docs/`, as tests read them."""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"

FENCE = re.compile(r"^(?:<!-- not run: ([^\n]*) -->\n\n)?( *)```([\w{}-]+)\n(.*?)^\2```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """`not_run` says why a test cannot run it, on the line before: `<!-- not run: It needs a mail server. -->`."""

    language: str
    text: str
    not_run: str = ""


def find_pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def read_page(name: str) -> str:
    """A page by its path in `docs/`."""
    return (DOCS / name).read_text()


def read_section(name: str, title: str) -> str:
    """The text of a page below the heading of this title, with its subsections."""
    [(level, rest)] = re.findall(rf"^(#+) {re.escape(title)}\n(.*)", read_page(name), re.DOTALL | re.MULTILINE)
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def find_blocks(text: str, *languages: str) -> Iterator[Block]:
    """The blocks of code in these languages, or all."""
    for not_run, _, language, code in FENCE.findall(text):
        if not languages or language in languages:
            yield Block(language, dedent(code), not_run)


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "`code`", FENCE.sub("", text))

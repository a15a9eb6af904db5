"""The README and the pages of `docs/`, as tests read them."""

import re
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"

FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    language: str
    text: str


def read_page(name: str) -> str:
    """A page by its path in `docs/`."""
    return (DOCS / name).read_text()


def read_section(name: str, title: str) -> str:
    """The text of a page below the heading of this title, with its subsections."""
    [(level, rest)] = re.findall(rf"^(#+) {re.escape(title)}\n(.*)", read_page(name), re.DOTALL | re.MULTILINE)
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def find_blocks(text: str, *languages: str) -> list[Block]:
    """The blocks of code in these languages, or all."""
    blocks = [Block(found[2], dedent(found[3])) for found in FENCE.finditer(text)]
    return [block for block in blocks if not languages or block.language in languages]

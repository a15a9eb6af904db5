"""Writes the feeds to fetch to files, once."""

import gzip
import random
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from string import ascii_lowercase

STORIES = 4
#: Bytes of a small document. The median of real feeds is larger, so parsing costs less here than there.
SIZE = 1_900
#: Bytes of a large document after compression, like real feeds with whole articles. It is three times as long.
LARGE_SIZE, LARGE_STORIES = 47_000, 25
ARTICLE_WORDS = 783
#: Of three to nine random letters each: texts of them can be compressed about as well as people's.
VOCABULARY = 3_000


def small_feed(name: object, mark: int = 0) -> bytes:
    """A feed of four stories. With another mark, the document differs but its stories are the same."""
    text = document(f"Feed {name}, edition {mark}", str(name), ["Some words about it. " * 9] * STORIES)
    return text.ljust(SIZE + mark).encode()


def large_feed(number: int) -> bytes:
    """A feed of whole articles, which depends only on the number."""
    words = vocabulary()
    chance = random.Random(number)
    often = [1 / rank for rank in range(1, VOCABULARY + 1)]  # Zipf's law
    articles = [" ".join(chance.choices(words, often, k=ARTICLE_WORDS)) for _ in range(LARGE_STORIES)]
    return document(f"Large feed {number}", f"large{number}", articles).encode()


@cache
def vocabulary() -> list[str]:
    chance = random.Random(0)
    return ["".join(chance.choices(ascii_lowercase, k=chance.randint(3, 9))) for _ in range(VOCABULARY)]


def document(title: str, name: str, texts: Sequence[str]) -> str:
    items = "".join(
        f"<item><title>Story {story} of {name}</title><link>http://feeds.example/{name}/{story}</link>"
        f"<guid isPermaLink='false'>{name}/{story}</guid>"
        f"<pubDate>Mon, {story % 28 + 1:02} Jun 2026 08:00:00 +0000</pubDate><description>{text}</description></item>"
        for story, text in enumerate(texts)
    )
    return f"<?xml version='1.0'?><rss version='2.0'><channel><title>{title}</title>{items}</channel></rss>"


def write_small_feeds(folder: Path, count: int, mark: int = 0) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.xml").write_bytes(small_feed(number, mark))


def write_large_feeds(folder: Path, count: int) -> None:
    """Write them plain and compressed: nginx sends the compressed file to clients that accept it."""
    folder.mkdir()
    for number in range(count):
        content = large_feed(number)
        (folder / f"{number}.xml").write_bytes(content)
        (folder / f"{number}.xml.gz").write_bytes(gzip.compress(content, 6))


def loopback_addresses(count: int) -> Iterator[str]:
    """127.0.1.1, 127.0.1.2, …: on Linux they all are this machine."""
    return (f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(count))

"""The feeds that are fetched, written to files once."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

STORIES = 4
#: Bytes of a small document. The median of real feeds is larger, so parsing costs less here than there.
SIZE = 1_900
#: Of the real feeds that our sample has, the median is 47 KB.
LARGE_SIZE, LARGE_STORIES = 47_000, 20
WORDS = "Some words about it, of the kind that a person writes in a hurry & without a second thought. "


def small_feed(number: int, mark: int = 0) -> bytes:
    """Four stories. With another mark the document differs and its stories are the same."""
    text = document(f"Feed {number}, edition {mark}", str(number), STORIES, "Some words about it. " * 9)
    return text.ljust(SIZE + mark).encode()


def large_feed(number: int) -> bytes:
    """Twenty stories with some text each."""
    words = WORDS * 24
    text = document(f"Large feed {number}", f"large{number}", LARGE_STORIES, words.replace("&", "&amp;"))
    return text.ljust(LARGE_SIZE).encode()


def document(title: str, name: str, stories: int, words: str) -> str:
    items = "".join(
        f"<item><title>Story {story} of {name}</title><link>http://feeds.example/{name}/{story}</link>"
        f"<guid isPermaLink='false'>{name}/{story}</guid>"
        f"<pubDate>Mon, {story % 28 + 1:02} Jun 2026 08:00:00 +0000</pubDate><description>{words}</description></item>"
        for story in range(stories)
    )
    return f"<?xml version='1.0'?><rss version='2.0'><channel><title>{title}</title>{items}</channel></rss>"


def write_small_feeds(folder: Path, count: int, mark: int = 0) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.xml").write_bytes(small_feed(number, mark))


def write_large_feeds(folder: Path, count: int) -> None:
    """Plain and compressed: nginx sends the compressed file to whom accepts it."""
    folder.mkdir()
    for number in range(count):
        content = large_feed(number)
        (folder / f"{number}.xml").write_bytes(content)
        (folder / f"{number}.xml.gz").write_bytes(gzip.compress(content))


def loopback_addresses(count: int) -> Iterator[str]:
    """127.0.1.1, 127.0.1.2, …: on Linux they all are this machine."""
    return (f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(count))

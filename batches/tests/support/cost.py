"""A program that checks feeds and measures the time and memory of each.

Reads from standard input `[{"config": {…}, "groups": [[url, …], …]}, …]`: checkers, and what each has to check, a group
at once and the groups in turn. Writes an object with the result for each address, and the costs of its group: seconds,
and the most bytes that the process has had above those at its start.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from batches.checking.checkers.base import ProfileToCheck
from batches.checking.checkers.feed import FeedChecker
from batches.conf import Config

PROCESS = Path("/proc/self")  # of Linux


async def main() -> None:
    before = memory("VmRSS")
    costs = {}
    for step in json.load(sys.stdin):
        async with FeedChecker(Config(**step["config"])) as checker:
            for urls in step["groups"]:
                costs |= await check(checker, urls, before)
    json.dump(costs, sys.stdout)


async def check(checker: FeedChecker, urls: list[str], before: int) -> dict[str, dict[str, Any]]:
    forget_peak()
    started = time.monotonic()
    results = await asyncio.gather(*(checker.check(ProfileToCheck(1, url)) for url in urls))
    costs = {"seconds": time.monotonic() - started, "bytes": memory("VmHWM") - before}
    return {
        url: {
            "ok": result.ok,
            "error": result.error,
            "stories": len(result.stories),
            "titles": [story.title for story in result.stories[:3]],
            **costs,
        }
        for url, result in zip(urls, results, strict=True)
    }


def can_be_measured() -> bool:
    return (PROCESS / "clear_refs").exists()


def forget_peak() -> None:
    (PROCESS / "clear_refs").write_text("5")


def memory(name: str) -> int:
    """Bytes of memory that the process has (VmRSS), or its peak (VmHWM)."""
    [kilobytes] = re.findall(rf"^{name}:\s+(\d+) kB$", (PROCESS / "status").read_text(), re.MULTILINE)
    return int(kilobytes) * 1024


if __name__ == "__main__":
    asyncio.run(main())

"""The machine's clock jumps, for the workers and for the database that compares the lease with it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from stress.stage import TAKEOVER_SECONDS, Stage

from .databases import in_the_middle, start_workers

#: Where distributions put it, below /usr.
LIBRARIES = ("lib/*/faketime", "lib/faketime", "lib64/faketime", "local/lib/faketime")
TIME_FILE = "FAKETIME_TIMESTAMP_FILE"

#: Forward, back, back once more, forward.
OFFSETS = ("+3600", "+0", "-3600", "+0")


def library() -> Path | None:
    found = (path for place in LIBRARIES for path in Path("/usr").glob(f"{place}/libfaketime.so.1"))
    return next(found, None)


def environment(time_file: Path) -> dict[str, str]:
    """What gives a process that is started with it the clock that the file says."""
    time_file.write_text(OFFSETS[-1])
    time_file.chmod(0o644)  # PostgreSQL's user reads it too
    found = library()
    return {
        "LD_PRELOAD": str(found),
        TIME_FILE: str(time_file),
        "FAKETIME_NO_CACHE": "1",
        # Time-outs go by it, and it does not jump on a real machine either.
        "DONT_FAKE_MONOTONIC": "1",
        # The library's remedy for an old glibc, on by default: each hand-over of Python's lock took five times as long.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }


def jump(stage: Stage, count: int) -> None:
    """In half of the cases the worker is killed in the same moment, so that its lease is all that tells of it."""
    file = Path(os.environ[TIME_FILE])
    start_workers(stage)
    stage.watch(TAKEOVER_SECONDS)
    while stage.tried < count and not stage.is_hopeless:
        owner = in_the_middle(stage)
        is_killed = stage.tried // len(OFFSETS) % 2 == 0
        if owner and is_killed:
            owner.kill()
        _set_clock(file, OFFSETS[stage.tried % len(OFFSETS)])
        jumped = time.monotonic()
        kind = "claimed" if is_killed else "recorded"
        stage.keep_waiting()
        if told := stage.wait_for(kind, since=jumped, seconds=TAKEOVER_SECONDS):
            stage.recoveries.append(told[1] - jumped)
        if is_killed:
            stage.start_worker()
        stage.tried += 1
    stage.drain()


def _set_clock(file: Path, offset: str) -> None:
    """In one step: nobody reads half of it."""
    new = file.with_suffix(".new")
    new.write_text(offset)
    new.chmod(0o644)
    new.rename(file)

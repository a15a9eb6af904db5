"""The clock jumps, for the workers and for the database that compares leases with it."""

import os
import time
from pathlib import Path

from stress.environment import PER_HOST
from stress.stage import TAKEOVER_SECONDS, Stage

from .databases import wait_for_progress

#: The paths of libfaketime in distributions, below /usr.
LIBRARIES = ("lib/*/faketime", "lib/faketime", "lib64/faketime", "local/lib/faketime")
TIME_FILE = "FAKETIME_TIMESTAMP_FILE"

#: Forward, back, back once more, forward.
OFFSETS = ("+3600", "+0", "-3600", "+0")


def library() -> Path | None:
    paths = (path for place in LIBRARIES for path in Path("/usr").glob(f"{place}/libfaketime.so.1"))
    return next(paths, None)


def environment(time_file: Path) -> dict[str, str]:
    """The environment of a process with a clock that follows the file."""
    time_file.write_text(OFFSETS[-1])
    time_file.chmod(0o644)  # PostgreSQL runs as another user
    path = library()
    return {
        "LD_PRELOAD": str(path),
        TIME_FILE: str(time_file),
        "FAKETIME_NO_CACHE": "1",
        # Timeouts use the monotonic clock, which does not jump on a real machine either.
        "DONT_FAKE_MONOTONIC": "1",
        # A workaround for an old glibc, on by default. It makes switching Python threads five times slower.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }


def jump(stage: Stage, count: int) -> None:
    """Half of the time, kill the worker at the same moment, so that only its lease is left."""
    if library() is None:
        stage.not_tried = "libfaketime (Debian's package faketime) is missing"
        return
    # For the database, the lease of a live worker has expired. The worker learns of it with its next heartbeat.
    stage.at_once = 2 * PER_HOST
    file = Path(os.environ[TIME_FILE])
    for _ in stage.strikes(count, TAKEOVER_SECONDS):
        owner = wait_for_progress(stage)
        is_killed = stage.tried // len(OFFSETS) % 2 == 0
        if owner and is_killed:
            owner.kill()
        _set_clock(file, OFFSETS[stage.tried % len(OFFSETS)])
        jumped = time.monotonic()
        kind = "claimed" if is_killed else "recorded"
        stage.keep_waiting()
        if event := stage.wait_for_any(kind, since=jumped, seconds=TAKEOVER_SECONDS):
            stage.recoveries.append(event[1] - jumped)
        if is_killed:
            stage.start_worker()
        stage.tried += 1


def _set_clock(file: Path, offset: str) -> None:
    """Replace the file atomically."""
    new = file.with_suffix(".new")
    new.write_text(offset)
    new.chmod(0o644)
    new.rename(file)

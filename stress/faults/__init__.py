"""One function per row of the table: it makes the fault happen so many times, and says what it saw go wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stress.databases import VENDORS
from stress.pairs import PAIRS
from stress.stage import Stage

from . import clock, databases, disks, operators, workers


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done how many times per database, and what must hold."""

    what: str
    must_hold: str
    count: int
    make: Callable[[Stage, int], None]
    databases: tuple[str, ...] = VENDORS
    config: dict[str, Any] = field(default_factory=dict)
    #: How often at least, however short the form is.
    least: int = 1
    #: Whether each process needs the library that gives it another clock.
    needs_clock: bool = False


FAULTS = {
    "kill": Fault(
        "worker killed with -9: anywhere, just before COMMIT, just after it",
        "all drained to done",
        500,
        workers.kill,
        least=3,
    ),
    "lose": Fault("the answer to a worker's COMMIT is lost", "nothing is recorded twice", 100, workers.lose),
    "freeze": Fault(
        "worker frozen longer than its lease, then let go", "its late results are refused", 200, workers.freeze, least=3
    ),
    "sigterm": Fault(
        "SIGTERM in the middle of a batch",
        "exits with 0 in time, and the next worker goes on at once",
        100,
        workers.sigterm,
        config={"LEASE_SECONDS": workers.LONG_LEASE},
    ),
    "poison": Fault(
        "a batch that kills its worker each time",
        "it ends in error, and the next one runs",
        5,
        workers.poison,
        config={"MAX_TAKEOVERS": workers.MAX_TAKEOVERS},
    ),
    "pause": Fault("pause and resume during a run", "no result after the pause", 1000, operators.pause),
    "pairs": Fault(
        "two identical transitions at the same instant",
        "one wins, no exception",
        1000,
        operators.pairs,
        least=len(PAIRS),
    ),
    "restart": Fault(
        "PostgreSQL restarted immediately", "the worker goes on by itself", 20, databases.restart, ("postgresql",)
    ),
    "away": Fault(
        "PostgreSQL away for a while", "the worker waits and goes on by itself", 20, databases.away, ("postgresql",)
    ),
    "holder": Fault("a client frozen while it holds the queue", "nobody waits for ever", 20, databases.frozen_holder),
    "full": Fault("disk full", "clear error, nothing half-written, goes on when there is room", 20, disks.full),
    "readonly": Fault("read-only database", "clear error, goes on when it can be written", 20, disks.read_only),
    "clock": Fault(
        "the clock jumps an hour either way", "recovery within lease and poll", 20, clock.jump, needs_clock=True
    ),
}

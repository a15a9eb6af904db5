"""The table of faults. The function of a fault injects it `count` times and reports breaches."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stress import namespaces
from stress.databases import VENDORS
from stress.pairs import PAIRS
from stress.stage import Stage

from . import celery, clock, databases, disks, hosts, operators, versions, workers


@dataclass(frozen=True, slots=True)
class Fault:
    """The fault, its expected outcome, and the number of attempts on each database."""

    what: str
    must_hold: str
    count: int
    make: Callable[[Stage, int], None]
    databases: tuple[str, ...] = VENDORS
    config: dict[str, Any] = field(default_factory=dict)
    #: The minimum count, in a short run.
    least: int = 1
    #: Whether each process needs libfaketime.
    needs_clock: bool = False
    #: Workers that share each batch.
    workers: int = 2


#: The number of additional attempts with four workers on each batch.
WITH_FOUR = {"kill": 200, "freeze": 60, "pause": 300, "clock": 20}


def add_with_four(faults: Mapping[str, Fault]) -> Iterator[tuple[str, Fault]]:
    for name, fault in faults.items():
        yield name, fault
        if count := WITH_FOUR.get(name):
            yield f"{name}-4", replace(fault, what="the same with four workers on each batch", count=count, workers=4)


_FAULTS = {
    "kill": Fault(
        "worker killed with -9: anywhere, just before COMMIT, just after it",
        "every batch ends as done",
        500,
        workers.kill,
        least=3,
    ),
    "lose": Fault("the response to a worker's COMMIT is lost", "nothing is recorded twice", 100, workers.lose),
    "freeze": Fault(
        "worker frozen longer than its lease, then resumed",
        "its late results are refused",
        200,
        workers.freeze,
        least=3,
    ),
    "share": Fault(
        "four workers share each batch, come and go",
        "no host gets more requests at once than allowed",
        200,
        workers.share,
        least=4,
        workers=4,
    ),
    "sigterm": Fault(
        "SIGTERM in the middle of a batch",
        "it exits with status 0 in time, and the next worker continues at once",
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
        workers=1,
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
        "PostgreSQL restarted in immediate mode",
        "the worker recovers",
        20,
        databases.restart,
        ("postgresql",),
    ),
    "away": Fault(
        "PostgreSQL stopped for a while", "the worker waits and recovers", 20, databases.away, ("postgresql",)
    ),
    "terminate": Fault(
        "PostgreSQL ends the session of a worker or of the web application",
        "the worker recovers, and no caller gets an error",
        100,
        databases.terminate,
        ("postgresql",),
    ),
    "crash": Fault(
        "one process of PostgreSQL killed with -9, which ends all sessions",
        "the worker recovers",
        20,
        databases.crash,
        ("postgresql",),
    ),
    "exhaust": Fault(
        "all connections of PostgreSQL taken by another program",
        "the worker waits and recovers",
        20,
        databases.exhaust,
        ("postgresql",),
    ),
    "reader": Fault("a reader's snapshot held for minutes", "nobody waits for it", 2, databases.reader),
    "holder": Fault(
        "a client frozen with the queue lock", "no other client waits for ever", 20, databases.frozen_holder
    ),
    "full": Fault("disk full", "clear error, nothing half-written, recovery once there is space", 20, disks.full),
    "readonly": Fault("read-only database", "clear error, recovery once it is writable", 20, disks.read_only),
    "upgrade": Fault(
        "a migration while workers run, then workers of both versions at once, killed with -9 in turn",
        "each version continues the other's run",
        20,
        versions.upgrade,
    ),
    **{
        f"celery-{name}": Fault(
            f"Celery runs the workers: {what}", "the work continues", 50, make, ("postgresql",), least=2
        )
        for name, what, make in (
            ("kill", "a process killed with -9", celery.inject(celery.kill_worker)),
            ("broker", "the broker killed with -9 and started", celery.inject(lambda team: team.broker.restart())),
            ("empty", "the broker emptied", celery.inject(lambda team: team.broker.empty())),
            ("restart", "PostgreSQL restarted in immediate mode", celery.inject(celery.restart_database)),
            ("promoter", "the beat killed with -9 and started", celery.inject(celery.kill_promoter)),
            ("twice", "every task delivered twice", celery.inject(lambda team: None, twice=True)),
        )
    },
    "hosts": Fault(
        "four hosts on a network: one cut off, killed, frozen or slow",
        "others continue its work within lease and poll, and no host of profiles gets too many requests at once",
        40,
        hosts.lose_hosts,
        ("postgresql",),
        config={"ALLOWED_NETWORKS": (f"{namespaces.NETWORK}.0/24", "127.0.0.0/8"), "LEASE_SECONDS": hosts.LEASE},
        least=4,
        workers=4,
    ),
    "clock": Fault(
        "the clock jumps an hour either way", "recovery within lease and poll", 20, clock.jump, needs_clock=True
    ),
}

FAULTS = dict(add_with_four(_FAULTS))

"""Checks that do nothing, with their results recorded: the overhead of the queue, against other queues."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.commands import NODE_MODULES, VAR, peer, run
from benchmarks.frame import OURS, Contender, Contest, Figures, Goal, Row, Scale, Unavailable, prose
from benchmarks.lists import addresses, write_list
from benchmarks.machine import installed_peers
from benchmarks.ours import new_project, require_complete, run_seconds
from benchmarks.services.databases import LABELS, Databases, databases
from benchmarks.services.redis import redis

CHECKS = "checks/s"
GROUPED = "grouped plain SQL"
GRAPHILE = "graphile-worker"

#: The script in `peers/`, and the databases that the queue supports, by its package.
QUEUES = {
    "huey": ("huey_queue.py", ("sqlite", "postgresql")),
    "django-q2": ("django_q_queue.py", ("sqlite", "postgresql")),
    "django-tasks-db": ("django_tasks_queue.py", ("sqlite", "postgresql")),
    "procrastinate": ("procrastinate_queue.py", ("postgresql",)),
    "celery": ("celery_queue.py", ("redis",)),
    "dramatiq": ("dramatiq_queue.py", ("redis",)),
    GRAPHILE: ("graphile_worker_queue.py", ("postgresql",)),
}
NAMES = {"celery": "Celery + Redis", "dramatiq": "dramatiq + Redis"}

DIFFERS = prose("""
    `batches` writes up to 500 results in one commit, and checks them again after a crash. `grouped plain SQL`
    writes the same rows in the same groups and does nothing else. graphile-worker fetches 500 jobs at once, deletes
    them in groups and stores no result. The others write each result separately; Redis keeps them in memory only,
    and huey runs SQLite without any sync. The time of `batches` includes claiming the batch and completing it; the
    time of the others begins with their first result.
""")


@contextmanager
def open_checks(vendor: str, processes: int, scale: Scale) -> Iterator[Contest]:
    with databases(vendor) as created, optional_redis() as redis_url, TemporaryDirectory(dir=VAR) as folder:
        count = scale.pick(100_000, 2_000)
        file = write_list(Path(folder) / "list.txt", addresses(count))
        contenders = [
            Contender(OURS, lambda: measure_ours(created, file, count, processes)),
            Contender(GROUPED, lambda: measure_grouped(created, file)),
        ]
        others = [name for name, (_, places) in QUEUES.items() if vendor in places or "redis" in places]
        contenders += [
            Contender(NAMES.get(name, name), partial(measure_queue, name, created, redis_url, processes, scale))
            for name in others
        ]
        yield Contest(contenders, make_goals([NAMES.get(name, name) for name in others]), DIFFERS)


@contextmanager
def optional_redis() -> Iterator[str]:
    """The URL of Redis, or empty: only some queues need it."""
    try:
        with redis() as url:
            yield url
    except Unavailable:
        yield ""


def make_goals(others: list[str]) -> list[Goal]:
    committing = tuple(name for name in others if name != GRAPHILE)
    goals = [
        Goal("of the best that commits each result", CHECKS, 20, against=committing),
        Goal("of grouped plain SQL", CHECKS, 0.5, against=(GROUPED,)),
    ]
    if GRAPHILE in others:
        goals.append(Goal("of graphile-worker", CHECKS, 1, against=(GRAPHILE,)))
    return goals


def measure_ours(created: Databases, file: Path, count: int, processes: int) -> Figures:
    with new_project(created) as project:
        batch = project.create(file, "noop")
        finished = project.check(batch, processes)
        details = project.newest_batch()
        require_complete(details, count)
        return {CHECKS: count / run_seconds(details), "CPU µs/check": 1e6 * finished.cpu / count, "MB": finished.memory}


def measure_grouped(created: Databases, file: Path) -> Figures:
    with new_project(created) as project:
        project.create(file, "noop")
        return project.inside("grouped_sql")


def measure_queue(name: str, created: Databases, redis_url: str, processes: int, scale: Scale) -> Figures:
    script, places = QUEUES[name]
    if name not in installed_peers():
        raise Unavailable(f"{name} is not installed: make bench")
    count = scale.pick(200_000, 10_000) if name == GRAPHILE else scale.pick(5_000, 1_000)
    with created.new() as database:
        url = redis_url if "redis" in places else database
        if not url:
            raise Unavailable("Redis is not installed: apt-get install redis-server")
        command = peer(script, url=url, processes=processes, count=count)
        return run(command, {"BENCH_NODE_MODULES": str(NODE_MODULES)}).figures


ROWS = [
    Row(
        f"checks-{vendor}-{processes}",
        f"No-op checks recorded on {label}, {processes} worker process{'es' if processes > 1 else ''}",
        60,
        partial(open_checks, vendor, processes),
    )
    for vendor, label in LABELS.items()
    for processes in (1, 2)
]

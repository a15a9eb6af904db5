"""The cost of hostile and slow hosts for others: the speed of innocent feeds with them, compared with the speed
without.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

from django.db import connection

from batches.batch_manager import BatchManager
from batches.checking.worker import Worker
from batches.models import Batch
from benchmarks.services.hosts import FAILED, RATIO, Server

#: Seconds after the last innocent, for those that fail because they have waited.
GRACE = 2.0
LONGEST = 120.0


def innocents(profiles: int) -> list[str]:
    return [f"127.1.{number // 250}.{number % 250 + 1}/innocent/{number}" for number in range(profiles)]


def spread(attackers: Iterable[str], among: list[str]) -> list[str]:
    """At equal distances."""
    attackers = list(attackers)
    step = len(among) // len(attackers)
    mixed: list[str] = []
    for number, attacker in enumerate(attackers):
        mixed += [attacker, *among[number * step : (number + 1) * step]]
    return mixed + among[len(attackers) * step :]


def each_host(network: int, kind: str, count: int) -> list[str]:
    return [f"127.{network}.{number // 250}.{number % 250 + 1}/{kind}/{number}" for number in range(count)]


#: The hostile profiles in a batch besides the innocent ones, by scenario.
SCENARIOS: dict[str, Callable[[list[str]], list[str]]] = {
    "tarpits": lambda good: spread(each_host(2, "tarpit", len(good) // 20), good),
    "hub": lambda good: spread(each_host(3, "moved", 200), good),
    "documents": lambda good: each_host(4, "heavy", 40) + good,
    "limited": lambda good: [f"127.5.0.1/limited/{n}" for n in range(30)] + good,
    "head": lambda good: [f"127.6.0.1/slow/{n}" for n in range(3_500)] + good,
}


def measure(scenario: str, profiles: int) -> dict[str, float]:
    """The speed of the innocents relative to their speed alone, just before and after, and the number of unjust
    failures.
    """
    mix = SCENARIOS[scenario]
    with Server() as server:
        work(server, innocents(profiles), profiles)  # from now on, nothing is new
        before, _ = work(server, innocents(profiles), profiles)
        mixed, failed = work(server, mix(innocents(profiles)), profiles)
        after, _ = work(server, innocents(profiles), profiles)
    unjustly = sum(number for kind, number in failed.items() if kind != "tarpit")
    return {RATIO: (before + after) / 2 / mixed, FAILED: float(unjustly)}


def work(server: Server, hosts: list[str], profiles: int) -> tuple[float, Counter[str]]:
    """Seconds from the start to the last innocent feed, and the failures until then."""
    server.reset()
    batch = BatchManager().create_batch("Benchmark", [server.url(host) for host in hosts])
    seconds: list[float] = []
    watcher = threading.Thread(target=lambda: seconds.append(pause_after_innocents(server, batch, profiles)))
    watcher.start()
    Worker(finished=lambda: not Batch.objects.filter(position__isnull=False).exists()).work()
    watcher.join()
    failed = batch.profiles.filter(status="failed").values_list("profile__url", flat=True)
    kinds = Counter(url.split("/")[3] for url in failed)
    BatchManager().delete_batch(batch.pk)
    return seconds[0], kinds


def pause_after_innocents(server: Server, batch: Batch, profiles: int) -> float:
    """The rest of the batch would take minutes."""
    started = time.perf_counter()
    while server.served() < profiles and time.perf_counter() - started < LONGEST:
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    time.sleep(GRACE)
    BatchManager().pause_batch(batch.pk)
    connection.close()
    return seconds

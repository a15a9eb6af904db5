"""The overhead of the queue: one worker process reads, assigns, records and completes checks that do nothing."""

import time
from collections.abc import Iterator
from statistics import median

from django.db import transaction

from batches.checking.checkers.base import Checker, CheckResult, ProfileToCheck
from batches.conf import get_config
from batches.models import Batch, BatchProfile
from batches.queue import results
from benchmarks.work import make_batch, work_on

PROFILES = 100_000
GOAL = 20_000


class NoopChecker(Checker):
    async def check(self, profile: ProfileToCheck) -> CheckResult:
        return CheckResult(True)


def run(profiles: int, rounds: int) -> Iterator[str]:
    rates, ratios = [], []
    for number in range(rounds):
        batch = make_batch(addresses(profiles, number), "noop")
        worked = work_on(batch)
        written = write_only(batch)
        rates.append(profiles / worked)
        ratios.append(written / worked)
        yield describe(f"round {number + 1}:", rates[-1], ratios[-1])
    yield describe(f"median (goal {GOAL:,}):", median(rates), median(ratios))


def describe(what: str, rate: float, ratio: float) -> str:
    return f"{what} {rate:,.0f} profiles/s, {ratio:.2f} of the speed of only writing the rows"


def addresses(profiles: int, number: int) -> Iterator[str]:
    return (f"http://host{profile % 5000}.example/{number}/{profile}" for profile in range(profiles))


def write_only(batch: Batch) -> float:
    """Seconds to write the same rows in the same chunks and nothing else."""
    batch.profiles.update(status=BatchProfile.Status.PENDING)
    rows = list(batch.profiles.order_by("pk").values_list("pk", flat=True))
    size = get_config().record_size
    started = time.perf_counter()
    for begin in range(0, len(rows), size):
        with transaction.atomic():
            chunk = rows[begin : begin + size]
            results.update_batch_profiles([(row, "ok", "", None, 0.0, False) for row in chunk])
    return time.perf_counter() - started

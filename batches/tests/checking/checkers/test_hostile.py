"""Hostile responses: each gets its reason, and costs little memory and time."""

import asyncio
import re
import time

import pytest

from batches.checking.checkers.base import ProfileToCheck
from batches.checking.checkers.feed import FeedChecker
from batches.conf import Config
from batches.tests.support.feedserver import WAIT_SECONDS
from batches.tests.support.hostile import CONFIG, SECRET, TOO_SLOW, attacks, peak

from .conftest import run_with

#: The maximum cost of each response. A bomb is 400 MB.
MAX_BYTES = 150_000_000
#: A request ends with its timeout. Reading a document has no timeout, and the machine may be busy.
MAX_SECONDS = 60.0


@pytest.mark.parametrize(
    "step", [pytest.param(8, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.exhaustive)]
)
def test_each_hostile_response_gets_its_reason_and_costs_little_memory_and_time(step, hostile):
    kinds = list(attacks())[::step]
    slow = [kind for kind in kinds if TOO_SLOW in attacks()[kind].error]
    hostile.answer("/good", b"<rss><channel><item><guid>1</guid></item></channel></rss>")
    urls = hostile.urls | {"good": hostile.url("/good")}
    results = {}

    async def check(checker, kind):
        results[kind] = await checker.check(ProfileToCheck(1, urls[kind]))

    async def check_all(patient):
        async with FeedChecker(Config(**CONFIG | {"per_host": 1000})) as hasty:
            with peak(MAX_BYTES):
                await asyncio.gather(*(check(hasty, kind) for kind in slow), check(patient, "good"))
        for kind in [kind for kind in kinds if kind not in slow]:
            started = time.monotonic()
            with peak(MAX_BYTES):
                await check(patient, kind)
            assert time.monotonic() - started < MAX_SECONDS, kind

    # Only those that trickle for ever reach their timeout.
    run_with(FeedChecker(Config(**CONFIG | {"timeout": WAIT_SECONDS, "per_host": 1000})), check_all)
    assert results.pop("good").ok
    assert list(results.keys() ^ kinds) == []
    assert {kind: result for kind, result in results.items() if not is_expected(attacks()[kind], result)} == {}
    assert SECRET not in str(results)
    assert hostile.hits("/secret") == 0


def is_expected(attack, result):
    as_expected = (result.ok, len(result.stories)) == (not attack.error, attack.stories)
    return as_expected and bool(re.search(attack.error, result.error))

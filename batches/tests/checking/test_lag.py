"""The worker measures how long its event loop is held up."""

import asyncio
import time

import pytest

from batches.checking.lag import SECONDS_BETWEEN_WARNINGS, measuring_lag
from batches.tests.support.factories import make_batch
from batches.tests.support.time import asynchronous, put_forward
from batches.tests.support.working import work


def compute(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "batches.checking.lag"]


@asynchronous
async def test_a_machine_that_is_busy_with_something_else_is_not_a_fault_of_the_loop(caplog):
    async with measuring_lag():
        await asyncio.sleep(0)
        time.sleep(0.25)  # noqa: ASYNC251
        await asyncio.sleep(0.05)
    assert warnings(caplog) == []


@pytest.mark.slow
@asynchronous
async def test_a_loop_that_is_blocked_again_and_again_is_logged_once_a_minute_with_the_worst(caplog):
    async with measuring_lag():
        for seconds in (0.15, 0.15, 0.25):
            await asyncio.sleep(0)
            compute(seconds)
            await asyncio.sleep(0.05)
        assert len(warnings(caplog)) == 1
        put_forward(SECONDS_BETWEEN_WARNINGS)
        await asyncio.sleep(0.05)
    assert len(warnings(caplog)) == 2
    assert " 0.2" in warnings(caplog)[1]


@pytest.mark.django_db(transaction=True)
def test_a_worker_says_so_when_something_took_too_long_to_compute(script, caplog):
    async def block(profile):
        compute(0.25)

    script(block)
    make_batch("it", 1, checker="scripted")
    work()
    [warning] = warnings(caplog)
    assert float(warning.removeprefix("The event loop was blocked for ").partition(" s")[0]) >= 0.25

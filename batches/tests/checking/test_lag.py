"""The worker measures how long its event loop is held up."""

import asyncio
import logging
import time

import pytest

from batches.checking.lag import LoopLag, measuring_lag
from batches.tests.support.working import work


def compute(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_step_that_computes_too_long_is_logged(caplog):
    async def run():
        async with measuring_lag() as lag:
            await asyncio.sleep(0)
            compute(0.25)
            await asyncio.sleep(0.05)
            return lag.longest, lag.longest_step

    longest, step = asyncio.run(run())
    assert longest > 0.2
    assert step >= 0.25
    (warning,) = warnings(caplog)
    assert warning.startswith(f"The event loop was blocked for {step:.2f} s")


def test_a_machine_that_is_busy_with_something_else_is_not_a_fault_of_the_loop(caplog):
    async def run():
        async with measuring_lag() as lag:
            await asyncio.sleep(0)
            time.sleep(0.25)  # noqa: ASYNC251
            await asyncio.sleep(0.05)
            return lag.longest, lag.longest_step

    longest, step = asyncio.run(run())
    assert longest > 0.2
    assert step < 0.1
    assert warnings(caplog) == []


@pytest.mark.slow
def test_a_loop_that_is_blocked_again_and_again_is_logged_once_a_minute_with_the_worst(caplog, monkeypatch):
    async def run():
        async with measuring_lag() as lag:
            for seconds in (0.15, 0.25, 0.2):
                await asyncio.sleep(0)
                compute(seconds)
                await asyncio.sleep(0.05)
            assert len(warnings(caplog)) == 1
            monkeypatch.setattr(lag, "_next_warning", 0.0)
            compute(0.15)
            await asyncio.sleep(0.05)

    asyncio.run(run())
    assert len(warnings(caplog)) == 2
    assert " 0.2" in warnings(caplog)[1]


@pytest.mark.django_db(transaction=True)
def test_a_worker_measures_its_own_loop(script, monkeypatch):
    measured = []
    stop = LoopLag.stop
    monkeypatch.setattr(LoopLag, "stop", lambda lag: measured.append(lag) or stop(lag))
    work()
    assert len(measured) == 1

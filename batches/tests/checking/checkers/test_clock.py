"""A check is charged only with the time that its site takes."""

import asyncio

import pytest

from batches.checking.checkers.clock import Clock, not_charged
from batches.tests.support.time import in_time


@in_time
async def test_waiting_for_our_own_resources_is_not_charged(time):
    async def check():
        with Clock(10.0) as clock:
            await time.pass_by(3.0)
            with not_charged():
                await time.pass_by(1000.0)
            assert clock.charged == 3.0
            await time.pass_by(6.0)
            assert clock.charged == 9.0
            await time.pass_by(1.0)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await check()


@in_time
async def test_every_clock_around_stops_and_none_beside(time):
    async def other():
        with Clock(5.0):
            await asyncio.Event().wait()

    beside = asyncio.create_task(other())
    await asyncio.sleep(0)
    with Clock(10.0) as outer, Clock(2.0) as inner:
        with not_charged():
            await time.pass_by(50.0)
        await time.pass_by(1.0)
        assert (outer.charged, inner.charged) == (1.0, 1.0)
    with pytest.raises(TimeoutError):
        await beside


@in_time
async def test_a_clock_continues_when_the_last_of_several_waits_ends(time):
    with Clock(10.0) as clock:
        with not_charged():
            with not_charged():
                await time.pass_by(5.0)
            await time.pass_by(5.0)
        await time.pass_by(1.0)
        assert clock.charged == 1.0


@in_time
async def test_a_wait_that_outlives_its_check_does_no_harm(time):
    go_on = asyncio.Event()

    async def wait():
        with not_charged():
            await go_on.wait()

    with Clock(10.0):
        left_behind = asyncio.create_task(wait())
        await time.pass_by(1.0)
    go_on.set()
    await left_behind


@in_time
async def test_without_a_clock_and_without_a_limit_nothing_ends(time):
    with not_charged():
        await time.pass_by(1e6)
    with Clock() as clock:
        await time.pass_by(1e6)
    assert clock.charged == 1e6


@in_time
async def test_a_cancelled_check_is_cancelled_not_over(time):
    async def check():
        with Clock(10.0), not_charged():
            await asyncio.Event().wait()

    task = asyncio.create_task(check())
    await time.pass_by(1.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@in_time
async def test_a_listener_is_notified_when_a_check_waits_and_releases_its_place(time):
    waits = []
    with Clock(on_wait=waits.append) as clock:
        with not_charged(keeps_place=True):
            await time.pass_by(1.0)
        assert (waits, clock.charged) == ([], 0.0)
        with not_charged():
            assert (waits, clock.is_running) == ([True], False)
        assert (waits, clock.is_running) == ([True, False], True)
    assert not clock.is_running


@in_time
async def test_a_check_can_continue_after_its_time_limit_but_not_if_it_is_also_cancelled(time):
    clocks = [Clock(10.0), Clock(10.0)]

    async def check(clock):
        try:
            with clock:
                await asyncio.Event().wait()
        except TimeoutError:
            async with asyncio.timeout(None):
                await asyncio.sleep(0)
            return f"cancelled {asyncio.current_task().cancelling()} times"

    tasks = [asyncio.create_task(check(clock)) for clock in clocks]
    await time.pass_by(1.0)
    time.now += 10.0
    for clock in clocks:
        clock.cancel_if_over()
    tasks[1].cancel()
    assert await tasks[0] == "cancelled 0 times"
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]

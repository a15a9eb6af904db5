"""Slots of domains: our own, those that we lend, and those that we borrow from other workers."""

import asyncio

import pytest

from batches.checking.checkers.slots import LOAN_SECONDS, Slots, Wishes
from batches.tests.support.time import asynchronous


def shared(per_domain, *own):
    """Slots of a worker that owns these domains, and the list of its calls for an exchange."""
    slots, wishes = Slots(per_domain), []
    slots.share(lambda name: name in own, lambda: wishes.append(len(wishes)))
    return slots, wishes


def waiting(slots, name, count=1):
    return [asyncio.ensure_future(slots.wait(name)) for _ in range(count)]


async def let_run():
    for _ in range(5):
        await asyncio.sleep(0)


def done(tasks):
    return [task.done() for task in tasks]


@asynchronous
async def test_a_domain_of_another_worker_has_no_slot_before_it_lends_one():
    slots, wishes = shared(2, "own")
    assert slots.take_wishes() == Wishes()
    assert not slots.take("foreign")
    checks = waiting(slots, "foreign", 2)
    await let_run()
    assert (wishes, slots.take_wishes()) == ([0, 1], Wishes(frozenset({"foreign"})))
    slots.set_loans(["foreign"], {})
    await let_run()
    assert (done(checks), slots.take("foreign")) == ([True, False], False)
    slots.release("foreign")
    await let_run()
    assert done(checks) == [True, True]


@asynchronous
async def test_a_loan_ends_when_no_check_needs_it(clock):
    slots, _ = shared(2)
    [check] = waiting(slots, "foreign")
    await let_run()
    slots.set_loans(["foreign"], {})
    await check
    assert (slots.take_wishes().wanted, slots.is_exchanging) == ({"foreign"}, True)
    slots.release("foreign")
    assert slots.take("foreign")  # again, while it has the loan
    slots.release("foreign")
    assert slots.take_wishes() == Wishes()
    assert not slots.take("foreign")  # even before the others know
    slots.set_loans([], {})
    assert not slots.is_exchanging


@asynchronous
async def test_a_loan_that_others_have_waited_for_long_enough_ends_after_the_request(clock):
    slots, _ = shared(2)
    checks = waiting(slots, "foreign", 2)
    await let_run()
    slots.set_loans(["foreign"], {})
    clock.now += LOAN_SECONDS
    assert slots.take_wishes().wanted == {"foreign"}  # its request is under way
    slots.set_loans(["foreign"], {})
    slots.release("foreign")
    await let_run()
    assert done(checks) == [True, False]
    assert slots.take_wishes() == Wishes()
    slots.set_loans([], {})
    assert slots.take_wishes().wanted == {"foreign"}  # at the end of the queue
    slots.set_loans(["foreign"], {})
    await let_run()
    assert done(checks) == [True, True]


@asynchronous
async def test_checks_that_wait_for_others_can_be_cancelled_and_the_rest_continues():
    slots, _ = shared(1, "own")
    assert slots.take("own")
    own, foreign = waiting(slots, "own"), waiting(slots, "foreign", 2)
    await let_run()
    slots.cancel_waiting()
    await let_run()
    assert (done(own), [check.cancelled() for check in foreign]) == ([False], [True, True])
    assert slots.take_wishes() == Wishes()
    slots.release("own")
    await let_run()
    assert done(own) == [True]


@asynchronous
async def test_a_slot_is_lent_when_it_is_free_and_our_own_checks_get_one_less():
    slots, _ = shared(2, "own")
    assert [slots.take("own") for _ in range(3)] == [True, True, False]
    slots.set_loans([], {"own": False})
    assert (slots.take_wishes(), slots.is_exchanging) == (Wishes(), True)
    slots.release("own")
    assert slots.take_wishes() == Wishes(spare=frozenset({"own"}))
    assert not slots.take("own")
    slots.set_loans([], {"own": True})
    assert (slots.take_wishes(), slots.take("own")) == (Wishes(), False)
    slots.set_loans([], {})
    assert (slots.take("own"), slots.take("own"), slots.is_exchanging) == (True, False, False)


@asynchronous
async def test_between_two_loans_our_own_checks_get_the_slot():
    """Otherwise a host with one slot would answer only the others."""
    slots, _ = shared(1, "own")
    slots.set_loans([], {"own": True})
    checks = waiting(slots, "own", 2)
    await let_run()
    assert done(checks) == [False, False]
    slots.set_loans([], {"own": False})  # one has returned it, the next one waits
    await let_run()
    assert (done(checks), slots.take_wishes().spare) == ([True, False], frozenset())
    slots.release("own")
    await let_run()
    assert (done(checks), slots.take_wishes().spare) == ([True, False], {"own"})
    slots.set_loans([], {})
    await let_run()
    assert done(checks) == [True, True]


@asynchronous
async def test_domains_in_use_are_those_with_requests_under_way():
    slots, _ = shared(1, "taken", "lent", "free")
    slots.take("taken")
    slots.take("free")
    slots.release("free")
    slots.set_loans([], {"lent": True})
    waiting(slots, "lent")
    await let_run()
    assert slots.in_use == {"taken"}


@asynchronous
async def test_a_name_that_the_database_cannot_store_fails_only_its_check():
    slots, _ = shared(1)
    for name in ("a\0b", "\ud800", "x" * 300):
        with pytest.raises(ValueError, match="is not a valid host name"):
            await slots.wait(name)
    assert slots.take_wishes() == Wishes()

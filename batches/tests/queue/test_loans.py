"""Loans of slots: what workers ask of each other in the database when redirects lead to domains of others."""

from functools import partial
from threading import Event

import pytest
from django.db import IntegrityError, transaction

from batches.batch_manager import BatchManager
from batches.models import EndedLease, Lease, Loan, Partition
from batches.queue import loans
from batches.queue.loans import are_slots_wanted
from batches.queue.partitions import partition_of_domain
from batches.queue.refusals import Code
from batches.tests.support.factories import age_leases
from batches.tests.support.threads import TIMEOUT, Gate, in_thread, run_in_threads, wait_for_lock

pytestmark = pytest.mark.django_db

DOMAINS = ["a.example", "b.example", "c.example", "d.example"]
HUB = DOMAINS[0]


def in_free_partitions():
    taken = {partition_of_domain(domain) for domain in DOMAINS}
    return (name for n in range(99) if partition_of_domain(name := f"other{n}.example") not in taken)


#: They are in different partitions.
ELSEWHERE, NOWHERE, *_ = in_free_partitions()


@pytest.fixture
def runs():
    """Three workers share a batch: the first owns the hub."""
    batch = BatchManager().create_batch("it", [f"https://{domain}/" for domain in DOMAINS])
    assert BatchManager().start_batch(batch.pk)
    runs = [BatchManager().claim_run(f"worker {number}", processes) for number, processes in enumerate((4, 2, 1))]
    return sorted(runs, key=lambda run: partition_of_domain(HUB) not in run.partitions)


def exchange(run, *wanted, spare=()):
    return BatchManager().share_run(run.batch.pk, run.run_token, wanted, spare)


def test_the_owner_of_a_domain_lends_a_slot_to_one_worker_after_the_other(runs):
    owner, second, third = runs
    assert not are_slots_wanted(owner.run_token)
    for borrower in (second, third):
        answer = exchange(borrower, HUB)
        assert (answer.borrowed, answer.partitions, answer.is_stuck) == ([], list(borrower.partitions), False)
    assert [are_slots_wanted(run.run_token) for run in runs] == [True, False, False]
    assert exchange(third, HUB, spare=[HUB]).lent == {}  # it is not the owner
    assert exchange(owner).lent == {HUB: False}
    assert exchange(owner, spare=[HUB]).lent == {HUB: True}
    assert exchange(owner, spare=[HUB]).lent == {HUB: True}  # repeated: not to both
    assert [exchange(borrower, HUB).borrowed for borrower in (second, third)] == [[HUB], []]
    assert exchange(second).borrowed == []
    assert exchange(owner).lent == {HUB: False}
    assert exchange(owner, spare=[HUB]).lent == {HUB: True}
    assert exchange(third, HUB).borrowed == [HUB]
    assert exchange(third).borrowed == []
    assert exchange(owner).lent == {}
    assert not Loan.objects.exists()


def test_a_domain_that_nobody_owns_becomes_the_workers_own(runs):
    owner, second, third = runs
    answer = exchange(second, ELSEWHERE, HUB)
    number = partition_of_domain(ELSEWHERE)
    assert answer.partitions == sorted([*second.partitions, number])
    assert answer.empty == [number]
    assert exchange(second, ELSEWHERE, HUB).empty == []
    exchange(third, ELSEWHERE)
    assert exchange(second, HUB).lent == {ELSEWHERE: False}
    assert exchange(owner).lent == {HUB: False}


def test_a_free_partition_with_pending_profiles_is_leased_to_check_them(runs):
    owner, second, _ = runs
    number = partition_of_domain(HUB)
    BatchManager().share_run(owner.batch.pk, owner.run_token, released=[number])
    answer = exchange(second, HUB)
    assert number in answer.partitions
    assert (answer.empty, answer.borrowed) == ([], [])
    assert not Loan.objects.exists()


def test_nobody_gets_the_domains_of_an_ended_run_with_requests_under_way(runs):
    """Neither those of its own profiles, nor those to which only redirects led, nor those of which it had a slot."""
    owner, second, third = runs
    exchange(second, HUB, NOWHERE)
    exchange(owner, spare=[HUB])
    borrower = Lease.objects.get(pk=second.run_token).worker
    assert BatchManager().pause_batch(owner.batch.pk)
    assert exchange(second, HUB).code == Code.FENCED
    assert not Loan.objects.exists()
    numbers = {partition_of_domain(HUB), partition_of_domain(NOWHERE)}
    assert {*EndedLease.objects.get(worker=borrower).partitions} == numbers.union(second.partitions)
    assert BatchManager().start_batch(owner.batch.pk)
    EndedLease.objects.exclude(worker=borrower).delete()
    later = BatchManager().claim_run("later")
    assert sorted(later.partitions) == sorted(third.partitions)
    answer = exchange(later, HUB, NOWHERE, ELSEWHERE)
    assert not numbers.intersection(answer.partitions)
    assert partition_of_domain(ELSEWHERE) in answer.partitions


def test_a_worker_that_waits_for_a_dead_one_hears_of_it(runs):
    owner, second, third = runs
    exchange(second, HUB)
    assert age_leases(owner.batch)
    for alive in (second, third):
        assert BatchManager().renew_lease(alive.batch.pk, alive.run_token)
    assert exchange(second, HUB).is_stuck
    assert not exchange(third).is_stuck
    assert BatchManager().claim_run("new")
    assert not exchange(second, HUB).is_stuck


def test_the_slot_of_a_dead_worker_is_free_again(runs):
    owner, second, third = runs
    exchange(second, HUB)
    exchange(owner, spare=[HUB])
    assert age_leases(owner.batch)
    for alive in (owner, third):
        assert BatchManager().renew_lease(alive.batch.pk, alive.run_token)
    assert exchange(owner).lent == {HUB: True}
    assert BatchManager().claim_run("new")
    assert exchange(owner).lent == {}


def test_the_database_refuses_two_loans_of_a_domain(runs):
    _, second, third = runs
    for run in (second, third):
        exchange(run, HUB)
    with pytest.raises(IntegrityError, match="domain"), transaction.atomic():
        Loan.objects.update(is_granted=True)


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_that_are_led_to_the_same_new_domain_at_once_one_owns_it(runs):
    _, second, third = runs
    answers = run_in_threads([partial(exchange, run, ELSEWHERE) for run in (second, third)])
    number = partition_of_domain(ELSEWHERE)
    assert sorted(number in answer.partitions for answer in answers) == [False, True]
    assert Partition.objects.filter(number=number).count() == 1


@pytest.mark.databases("postgresql")  # on SQLite one writes at a time
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("call", [{"wanted": [HUB]}, {"processes": 1}], ids=["redirect", "share"])
def test_a_partition_that_another_worker_is_leasing_is_left_to_it(call, runs, monkeypatch):
    owner, second, third = runs
    number = partition_of_domain(HUB)
    BatchManager().share_run(owner.batch.pk, owner.run_token, released=[number])
    gate = Gate(monkeypatch, loans, "store_wishes")  # behind the lease
    leasing = gate.stop(lambda: BatchManager().share_run(second.batch.pk, second.run_token, **call))
    answer = in_thread(lambda: BatchManager().share_run(third.batch.pk, third.run_token, **call))
    wait_for_lock(answer)
    gate.open()
    assert [number in both.result(TIMEOUT).partitions for both in (leasing, answer)] == [True, False]


@pytest.mark.databases("postgresql")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("has_the_slot", [False, True])
def test_a_worker_that_lends_does_not_wait_for_one_that_returns(has_the_slot, runs):
    """Both could wait for each other's rows, as each returns and lends in one transaction."""
    owner, second, third = runs
    exchange(second, HUB)
    if has_the_slot:
        exchange(owner, spare=[HUB])
    exchange(third, HUB)
    deleted, may_end = Event(), Event()

    def return_slowly():
        with transaction.atomic():
            Loan.objects.filter(lease=second.run_token).delete()
            deleted.set()
            assert may_end.wait(TIMEOUT)

    returning = in_thread(return_slowly)
    assert deleted.wait(TIMEOUT)
    exchange(owner, spare=[HUB])
    assert exchange(third, HUB).borrowed == ([] if has_the_slot else [HUB])
    may_end.set()
    returning.result(TIMEOUT)
    exchange(owner, spare=[HUB])
    assert exchange(third, HUB).borrowed == [HUB]

"""Several workers share the partitions of one batch: each one belongs to one worker at a time."""

from datetime import timedelta
from functools import partial
from itertools import combinations

import pytest
from django.db import OperationalError, transaction
from django.db.models.functions import Now

from batches.batch_manager import BatchManager
from batches.limits import PARTITIONS
from batches.models import Batch, EndedLease, Lease, Partition, Profile
from batches.queue import results
from batches.queue.partitions import FEW_ROWS, are_wanted, partition_of
from batches.queue.refusals import Code
from batches.tests.support.factories import (
    age_leases,
    assert_consistent,
    failed,
    ok,
    profile_ids,
    record,
    row_statuses,
    unchanged,
    values_of,
)
from batches.tests.support.tables import run_sql
from batches.tests.support.threads import TIMEOUT, Gate, in_thread, run_in_threads

pytestmark = pytest.mark.django_db

LEASE = timedelta(seconds=30)


def of_domains(count):
    """A batch of this many profiles, each in its own partition."""
    found = {}
    number = 0
    while len(found) < count:
        url = f"https://{number}.example/"
        found.setdefault(partition_of(url), url)
        number += 1
    return BatchManager().create_batch("it", found.values())


def share(batch, *processes):
    """Let one worker after the other claim its share of a batch that was started."""
    assert BatchManager().start_batch(batch.pk)
    return [BatchManager().claim_run(f"worker {number}", count) for number, count in enumerate(processes)]


def profiles_of(run, *numbers):
    rows = run.batch.profiles.filter(partition__in=numbers or run.partitions)
    return list(rows.order_by("pk").values_list("profile_id", flat=True))


def lease(run, processes=1, **returned):
    """The partitions that it has then, or the refusal."""
    shared = BatchManager().share_run(run.batch.pk, run.run_token, processes=processes, **returned)
    return shared and shared.partitions


def test_a_worker_is_the_first_of_a_run_and_again_after_all_have_gone():
    """It says that the run starts."""
    first, second = share(of_domains(4), 2, 2)
    assert (first.is_first, second.is_first) == (True, False)
    for run in (first, second):
        assert BatchManager().release_run(run.batch.pk, run.run_token)
    assert BatchManager().claim_run("third").is_first


def test_a_run_can_use_a_worker_for_each_free_share_up_to_the_limit():
    share(of_domains(4), 4, 4)
    assert [BatchManager().ensure_run("visitor", limit).wanted for limit in (1, 2, 3, 5)] == [0, 0, 1, 2]


def all_die_but(run):
    assert age_leases(run.batch)
    assert BatchManager().renew_lease(run.batch.pk, run.run_token)


# Numbers


def test_all_profiles_of_a_domain_are_in_one_partition_by_the_address_that_is_fetched_first():
    addresses = [
        "https://a.example.org/1",
        "http://b.example.org:8080/2",
        "https://example.org/",
        "https://other.example/",
    ]
    batch = BatchManager().create_batch("it", addresses)
    number = partition_of("https://example.org/")
    assert list(batch.profiles.order_by("pk").values_list("partition", flat=True)[:3]) == [number] * 3
    Profile.objects.filter(url="https://other.example/").update(feed_url="https://feeds.example.org/other")
    for again in (BatchManager().repeat_batch(batch.pk), BatchManager().create_batch("x", Profile.objects.all())):
        assert set(again.profiles.values_list("partition", flat=True)) == {number}


def test_the_numbers_never_change():
    """Two versions work on one batch during an upgrade."""
    addresses = ("https://example.org/", "http://192.0.2.1/", "http://[2001:db8::1]/", "http://localhost/")
    assert [partition_of(address) for address in addresses] == [223, 55, 14, 35]


@pytest.mark.parametrize(("rows", "total", "partitions"), [(3, 3, 3), (0, 0, 0), (3, FEW_ROWS + 1, PARTITIONS)])
def test_a_small_batch_has_the_partitions_of_its_rows_and_a_large_one_all(rows, total, partitions):
    batch = of_domains(rows)
    Batch.objects.filter(pk=batch.pk).update(total_profiles=total)
    share(batch, 1)
    assert Partition.objects.count() == partitions


# Sharing


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 10])
def test_processes_that_start_together_share_the_partitions_fairly(processes):
    runs = share(of_domains(12), *[processes] * (processes + 1))
    shares = [set(run.partitions) for run in runs if run]
    assert len(set().union(*shares)) == sum(map(len, shares)) == 12
    assert max(map(len, shares)) == -(-12 // processes)
    assert runs[-1] is None
    assert Lease.objects.count() == len(shares)
    assert_consistent()


def test_each_worker_records_in_its_own_partitions_only_and_all_count():
    batch = of_domains(6)
    Profile.objects.update(first_read_at=Now())  # earlier stories are not new
    one, two = share(batch, 2, 2)
    foreign = profiles_of(two)
    record(one, [(pk, ok("a story")) for pk in profile_ids(batch)])
    assert set(batch.profiles.filter(profile__in=foreign).values_list("status", flat=True)) == {"pending"}
    record(two, [(pk, failed()) for pk in foreign[:2]])
    batch.refresh_from_db()
    counters = ("completed_profiles", "successful_checks", "failed_checks", "stories_found")
    assert [values_of(batch.pk)[name] for name in counters] == [5, 3, 2, 3]
    assert_consistent()
    assert BatchManager().finish_run(batch.pk, one.run_token).code == Code.NOT_FINISHED
    record(two, [(pk, failed()) for pk in foreign])
    assert BatchManager().finish_run(batch.pk, one.run_token)
    assert [values_of(batch.pk)[name] for name in counters] == [6, 3, 3, 3]
    assert BatchManager().renew_lease(batch.pk, two.run_token).code == Code.FENCED
    assert_consistent()


def test_the_time_of_workers_that_work_at_the_same_time_counts_once():
    batch = of_domains(6)
    one, two = share(batch, 2, 2)
    Lease.objects.filter(pk=one.run_token).update(run_seconds=1000.0)
    Lease.objects.filter(pk=two.run_token).update(run_seconds=400.0)
    assert 1000.0 <= values_of(batch.pk)["run_seconds"] < 1100.0
    assert BatchManager().release_run(batch.pk, one.run_token)
    Lease.objects.filter(pk=two.run_token, run_seconds=0.0).update(run_seconds=500.0)
    assert BatchManager().pause_batch(batch.pk)
    assert 1500.0 <= values_of(batch.pk)["run_seconds"] < 1600.0


# Leasing more


def test_a_worker_leases_a_share_of_what_others_have_released_and_can_repeat_the_call():
    one, two = share(of_domains(8), 2, 2)
    assert lease(one) == list(one.partitions)
    assert BatchManager().release_run(two.batch.pk, two.run_token)
    assert lease(one, 2) == sorted({*one.partitions, *two.partitions})
    assert lease(one, 2) == sorted({*one.partitions, *two.partitions})


def test_a_checked_partition_is_gone_and_a_released_one_can_be_leased_by_others():
    [one] = share(of_domains(4), 1)
    checked, released, *kept = one.partitions
    assert lease(one, 0, checked=[checked], released=[released]) == kept
    two = BatchManager().claim_run("another")
    assert two.partitions == (released,)
    assert lease(two, 0, checked=[*kept, 255], released=kept) == [released]  # not the partitions of others
    assert set(Partition.objects.values_list("number", flat=True)) == {released, *kept}


def test_a_worker_that_releases_its_run_is_logged_and_removes_its_checked_partitions():
    [one] = share(of_domains(4), 1)
    checked, *left = one.partitions
    assert BatchManager().release_run(one.batch.pk, one.run_token, [checked])
    assert one.batch.logs.latest("pk").action == "release_run"
    assert BatchManager().claim_run("another").partitions == tuple(left)


def test_results_that_were_lost_are_found_again_although_their_partition_counted_as_checked():
    """PostgreSQL can lose its last COMMITs if it does not wait for the disk."""
    [one] = share(of_domains(2), 1)
    assert lease(one, checked=one.partitions) == []
    assert BatchManager().finish_run(one.batch.pk, one.run_token).code == Code.NOT_FINISHED
    assert BatchManager().release_run(one.batch.pk, one.run_token)
    assert BatchManager().claim_run("worker").partitions == one.partitions


def test_a_worker_that_finds_nothing_is_noticed_until_it_has_something(settings):
    batch = of_domains(4)
    [one] = share(batch, 1)
    assert not are_wanted(batch)
    assert BatchManager().claim_run("another") is None
    assert are_wanted(batch)
    assert lease(one, 0, released=one.partitions[:2])
    assert not are_wanted(batch)
    assert BatchManager().claim_run("another").partitions == one.partitions[:2]
    assert not are_wanted(batch)


# Checks that are still under way when a run ends

ENDS = {
    "pause": lambda batch: BatchManager().pause_batch(batch.pk),
    "complete": lambda batch: BatchManager().complete_batch(batch.pk),
    "error": lambda batch: BatchManager().handle_error(batch.pk, "It broke."),
}


def begin_again(batch):
    """Start it, or a repeat of it: of the same domains."""
    if not BatchManager().start_batch(batch.pk):
        assert BatchManager().start_batch(BatchManager().repeat_batch(batch.pk).pk)


@pytest.mark.parametrize("end", ENDS)
def test_an_ended_run_fences_its_workers_and_blocks_their_partitions_until_they_look_for_work_again(end):
    """In any batch."""
    batch = of_domains(6)
    one, two = share(batch, 2, 2)
    record(one, [(profiles_of(one)[0], ok())])
    assert ENDS[end](batch)
    with unchanged():
        for run in (one, two):
            late = [(pk, ok()) for pk in profiles_of(run)]
            assert BatchManager().record_results(batch.pk, run.run_token, late).code == Code.FENCED
            assert lease(run).code == Code.FENCED
    assert values_of(batch.pk)["completed_profiles"] == 1
    begin_again(batch)
    assert BatchManager().claim_run("another") is None
    assert BatchManager().claim_run("worker 0", 2).partitions == one.partitions
    assert BatchManager().claim_run("another") is None
    BatchManager().end_worker("worker 1")
    three = BatchManager().claim_run("another")
    assert three.partitions == two.partitions
    assert not EndedLease.objects.exists()
    assert_consistent()


@pytest.mark.parametrize("ahead", [LEASE * -0.1, LEASE * 1.1], ids=["expired", "the clock was set back"])
def test_the_partitions_of_a_worker_that_died_before_it_noticed_are_free_when_its_lease_would_have_expired(ahead):
    [one] = share(of_domains(3), 1)
    assert BatchManager().pause_batch(one.batch.pk)
    assert BatchManager().start_batch(one.batch.pk)
    EndedLease.objects.update(until=Now() + LEASE * 0.1)
    assert BatchManager().claim_run("another") is None
    EndedLease.objects.update(until=Now() + ahead)
    assert BatchManager().claim_run("another").partitions == one.partitions


def test_partitions_with_checks_of_others_under_way_are_leased_later():
    batch = of_domains(6)
    one, two = share(batch, 2, 2)
    assert BatchManager().pause_batch(batch.pk)
    assert BatchManager().start_batch(batch.pk)
    again = BatchManager().claim_run("worker 0")
    assert lease(again) == list(one.partitions)
    BatchManager().end_worker("worker 1")
    assert lease(again) == sorted({*one.partitions, *two.partitions})


def test_nothing_is_under_way_when_everything_is_checked():
    one, two = share(of_domains(2), 2, 2)
    for run in (one, two):
        record(run, [(pk, ok()) for pk in profiles_of(run)])
    assert BatchManager().finish_run(one.batch.pk, one.run_token)
    assert not EndedLease.objects.exists()


# Taking over


def test_the_partitions_of_a_dead_worker_are_taken_over_and_the_others_stay():
    batch = of_domains(6)
    one, two = share(batch, 2, 2)
    record(one, [(profiles_of(one)[0], ok())])
    all_die_but(two)
    three = BatchManager().claim_run("another", 2)
    assert three.partitions == one.partitions
    assert (values_of(batch.pk)["takeovers"], values_of(batch.pk)["completed_profiles"]) == (1, 1)
    assert BatchManager().renew_lease(batch.pk, two.run_token)
    with unchanged():
        assert BatchManager().record_results(batch.pk, one.run_token, [(pk, ok()) for pk in profiles_of(one)]).code == (
            Code.FENCED
        )
    record(three, [(pk, ok()) for pk in profiles_of(three)])
    assert values_of(batch.pk)["completed_profiles"] == 3
    assert_consistent()


def test_all_workers_of_a_machine_that_is_switched_off_count_as_one_takeover():
    batch = of_domains(8)
    share(batch, 4, 4, 4, 4)
    assert age_leases(batch)
    assert len(BatchManager().claim_run("another").partitions) == 8
    assert values_of(batch.pk)["takeovers"] == 1


def test_the_progress_of_one_worker_is_the_progress_of_the_batch(settings):
    settings.BATCHES = {"MAX_TAKEOVERS": 1}
    batch = of_domains(4)
    one, two = share(batch, 2, 2)
    for profile_id in profiles_of(two):
        record(two, [(profile_id, ok())])
        all_die_but(two)
        assert BatchManager().claim_run("another", 2).partitions == one.partitions
    all_die_but(two)
    assert BatchManager().claim_run("another", 2) is None
    assert values_of(batch.pk)["status"] == "error"
    assert not Lease.objects.exists()
    assert_consistent()


# Locks


def pause_impatiently(batch):
    run_sql("SET LOCAL lock_timeout = '50ms'")
    BatchManager().pause_batch(batch.pk)


@pytest.mark.databases("postgresql")
@pytest.mark.django_db(transaction=True)
def test_a_worker_records_while_another_is_recording_and_a_pause_waits_for_both(monkeypatch):
    batch = of_domains(4)
    one, two = share(batch, 2, 2)
    gate = Gate(monkeypatch, results, "update_batch_profiles")
    found = [(profiles_of(one)[0], ok("s"))]
    recording = gate.stop(lambda: BatchManager().record_results(batch.pk, one.run_token, found))
    monkeypatch.undo()
    record(two, [(profiles_of(two)[0], ok("s"))])
    assert values_of(batch.pk)["completed_profiles"] == 1
    with pytest.raises(OperationalError, match="lock timeout"), transaction.atomic():
        pause_impatiently(batch)
    gate.open()
    assert recording.result(TIMEOUT)
    assert in_thread(lambda: BatchManager().pause_batch(batch.pk)).result(TIMEOUT)
    assert sorted(row_statuses(batch)) == ["ok", "ok", "pending", "pending"]
    assert_consistent()


AT_ONCE = {
    "record": lambda run: BatchManager().record_results(
        run.batch.pk, run.run_token, [(pk, ok("s")) for pk in profiles_of(run)]
    ),
    "lease": lambda run: lease(run, 0, checked=run.partitions[:1], released=run.partitions[1:2]),
    "release": lambda run: BatchManager().release_run(run.batch.pk, run.run_token),
    "pause": lambda run: BatchManager().pause_batch(run.batch.pk),
    "claim": lambda run: BatchManager().claim_run("another"),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("calls", list(combinations(AT_ONCE, 2)), ids="+".join)
def test_calls_at_the_same_instant_do_not_deadlock(calls, rounds):
    for _ in rounds():
        batch = of_domains(6)
        runs = share(batch, 2, 2)
        run_in_threads([partial(AT_ONCE[call], run) for call, run in zip(calls * 2, runs * 2, strict=True)])
        assert BatchManager().pause_batch(batch.pk)
        assert not Lease.objects.exists()

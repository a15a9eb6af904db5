"""Constraints: the database refuses impossible rows, even from plain SQL.

A CHECK passes on NULL, so each NULL has a row.
"""

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils import timezone

from batches.models import Batch, BatchProfile, Lease, Partition, Profile, Queue, StoryResult
from batches.tests.support.factories import half_checked, make_batch, values_of

pytestmark = pytest.mark.django_db

NOW = timezone.now()

REQUIRED = [
    "total_profiles", "completed_profiles", "successful_checks", "failed_checks", "skipped_profiles", "stories_found",
    "takeovers", "priority", "name", "error", "count_first",
]  # fmt: skip
PLACES = {("running", 0), ("queued", 7), ("paused", None), ("done", None), ("error", None)}
IMPOSSIBLE = {
    **{
        f"{status!r} at {position}": {"status": status, "position": position}
        for status in (*Batch.Status.values, "lost", "", "PAUSED", None)
        for position in (None, -1, 0, 7)
        if (status, position) not in PLACES
    },
    "more completed than there are": {"completed_profiles": 4},
    "more results than completed": {"successful_checks": 2},
    "more results and skipped profiles than completed": {"skipped_profiles": 1},
    "more failures than completed": {"failed_checks": 3, "successful_checks": 0},
    "a total below the completed profiles": {"total_profiles": 1},
    "a negative total": {"total_profiles": -1, "completed_profiles": -1, "successful_checks": -1, "failed_checks": -1},
    "a negative number of completed": {"completed_profiles": -1, "successful_checks": -1, "failed_checks": -1},
    "a negative number of successes": {"successful_checks": -1},
    "a negative number of failures": {"failed_checks": -1},
    "a negative number of skipped profiles": {"skipped_profiles": -1},
    "a negative number of stories": {"stories_found": -1},
    "negative takeovers": {"takeovers": -1},
    **{f"no {field}": {field: None} for field in REQUIRED},
    "deleted but queued": {"status": "queued", "position": 7, "deleted_at": NOW},
    "deleted but running": {"status": "running", "position": 0, "deleted_at": NOW},
}


@pytest.fixture
def it():
    counters = {"total_profiles": 3, "completed_profiles": 2, "successful_checks": 1, "failed_checks": 1}
    return Batch.objects.create(name="it", status="paused", **counters)


@pytest.mark.parametrize("change", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_an_impossible_batch_is_refused_by_the_database(change, it):
    before = values_of(it.pk)
    assert_impossible(lambda: Batch.everything.filter(pk=it.pk).update(**change))
    assert values_of(it.pk) == before


def assert_impossible(write):
    with pytest.raises(IntegrityError), transaction.atomic():
        write()


POSSIBLE = {
    "running": {"status": "running", "position": 0},
    "queued far behind": {"status": "queued", "position": 1_999_999_999},
    "done": {"status": "done", "position": None},
    "failed": {"status": "error", "position": None},
    "deleted": {"status": "paused", "position": None, "deleted_at": NOW},
    "completed without a verdict": {"completed_profiles": 3},
    "one skipped": {"completed_profiles": 3, "skipped_profiles": 1},
    "all done": {"completed_profiles": 3, "successful_checks": 3, "failed_checks": 0},
}


@pytest.mark.parametrize("change", POSSIBLE.values(), ids=POSSIBLE.keys())
def test_a_possible_batch_is_not_refused(change, it):
    assert Batch.everything.filter(pk=it.pk).update(**change) == 1


def test_two_batches_cannot_run():
    half_checked("running")
    assert_impossible(lambda: Batch.objects.filter(name="first").update(status="running", position=0))
    assert_impossible(lambda: Batch(name="x", status="running", position=0).save())


def test_two_batches_cannot_have_one_place():
    make_batch("a"), make_batch("b")
    assert_impossible(lambda: Batch.objects.filter(name="b").update(position=1))
    assert_impossible(lambda: Batch.objects.bulk_create([Batch(name="c", position=2)]))


def test_many_batches_may_be_out_of_the_queue():
    Batch.objects.bulk_create(Batch(name=f"{number}", status="paused") for number in range(3))


def test_nothing_is_stopped_by_a_queue_that_is_not_held(it):
    assert_impossible(lambda: Queue.objects.update_or_create(defaults={"stopped": it}))


@pytest.mark.parametrize("status", ["lost", "", "PENDING", None])
def test_a_profiles_row_has_a_known_status(status):
    make_batch(profiles=1)
    assert_impossible(lambda: BatchProfile.objects.update(status=status))


@pytest.mark.parametrize(
    "change", [{"has_story": None}, {"error": None}, {"http_status": -1}, {"batch": None}, {"profile": None}]
)
def test_an_impossible_row_of_a_batch_is_refused(change):
    make_batch(profiles=1)
    assert_impossible(lambda: BatchProfile.objects.update(**change))


def test_a_profile_is_in_a_batch_once():
    row = make_batch(profiles=1).profiles.get()
    assert_impossible(lambda: BatchProfile.objects.create(batch=row.batch, profile=row.profile))


@pytest.mark.parametrize(
    "change",
    [*({name: -1} for name in ("successful_checks", "failed_checks", "stories_found")), {"worker": None}],
)
def test_an_impossible_lease_is_refused(change):
    half_checked("running")
    assert_impossible(lambda: Lease.objects.update(**change))


@pytest.mark.parametrize("number", [-1, 256])
def test_a_partition_has_a_known_number_and_is_there_once(number):
    it = half_checked("running")
    assert_impossible(lambda: Partition.objects.create(batch=it, number=number))
    assert_impossible(lambda: Partition.objects.create(batch=it, number=it.partitions.get().number))


def test_an_address_is_one_profile():
    Profile.objects.create(url="https://example.org/")
    assert_impossible(lambda: Profile.objects.create(url="https://example.org/"))


@pytest.mark.parametrize(
    "memory",
    [
        {"failures": -1, "failing_since": NOW},
        {"failures": 1},
        {"failing_since": NOW},
        {"rests_until": NOW},
        {"failures": None},
    ],
)
def test_an_impossible_memory_of_a_profile_is_refused(memory):
    Profile.objects.create(url="https://example.org/")
    assert_impossible(lambda: Profile.objects.update(**memory))


def test_a_profile_rests_only_while_it_fails():
    Profile.objects.create(url="https://example.org/", failures=3, failing_since=NOW, rests_until=NOW)


def test_a_story_is_new_once_per_profile():
    one, other = (Profile.objects.create(url=f"https://example.org/{number}") for number in (1, 2))
    StoryResult.objects.create(profile=one, story_id="a")
    StoryResult.objects.create(profile=other, story_id="a")
    assert_impossible(lambda: StoryResult.objects.create(profile=one, story_id="a"))


def test_there_is_one_queue():
    make_batch()
    assert Queue.objects.get().pk == Queue.THE_ONE
    assert_impossible(lambda: Queue.objects.create(pk=2))
    assert_impossible(lambda: Queue.objects.update(id=2))
    assert_impossible(lambda: Queue.objects.create(pk=Queue.THE_ONE))
    assert_impossible(lambda: Queue.objects.update(version=F("version") - 1_000_000))


def test_plain_sql_is_refused_too():
    it = half_checked("done")
    table, pk = Batch._meta.db_table, Batch._meta.pk.get_db_prep_value(it.pk, connection)
    for change in ("status = 'running'", "position = 3", "status = 'queued', position = NULL"):
        with connection.cursor() as cursor:
            assert_impossible(lambda: cursor.execute(f"UPDATE {table} SET {change} WHERE id = %s", [pk]))  # noqa: B023

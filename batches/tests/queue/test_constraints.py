"""Constraints: the database refuses impossible rows, even from plain SQL.

A CHECK passes on NULL, so each NULL has a row.
"""

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Subquery
from django.utils import timezone

from batches.models import Batch, BatchProfile, Lease, Partition, Profile, Queue, StoryResult
from batches.tests.support.factories import half_checked, values_of

pytestmark = pytest.mark.django_db

NOW = timezone.now()

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
    with pytest.raises(IntegrityError):
        commit(write)


@transaction.atomic
def commit(write):
    write()
    connection.check_constraints()  # as a COMMIT does: on PostgreSQL, the constraint of positions can be deferred


#: Changes of the rows around a running batch.
IMPOSSIBLE_ROWS = [
    *((BatchProfile, {"status": status}) for status in ("lost", "", "PENDING", None)),
    (BatchProfile, {"http_status": -1}),
    *((Lease, {name: -1}) for name in ("successful_checks", "failed_checks", "stories_found")),
    *((Partition, {"number": number}) for number in (-1, 256)),
    (Profile, {"failures": -1, "failing_since": NOW}),
    (Profile, {"failures": 1}),
    (Profile, {"failing_since": NOW}),
    (Profile, {"rests_until": NOW}),
    (Queue, {"id": 2}),
    (Queue, {"version": F("version") - 1_000_000}),
    (Queue, {"stopped": Subquery(Batch.objects.running().values("pk"))}),  # it is not held
]


@pytest.mark.parametrize(("model", "change"), IMPOSSIBLE_ROWS)
def test_an_impossible_row_is_refused(model, change):
    half_checked("running")
    row = model.objects.earliest("pk")
    assert_impossible(lambda: model.objects.filter(pk=row.pk).update(**change))


def test_what_exists_once_cannot_exist_twice():
    it = half_checked("running")
    row, partition, story = it.profiles.earliest("pk"), it.partitions.get(), StoryResult.objects.get()
    for write in (
        lambda: Batch.objects.filter(name="first").update(status="running", position=0),
        lambda: Batch.objects.filter(name="first").update(position=2),
        lambda: BatchProfile.objects.create(batch=it, profile=row.profile),
        lambda: Partition.objects.create(batch=it, number=partition.number),
        lambda: Profile.objects.create(url=row.profile.url),
        lambda: StoryResult.objects.create(profile=story.profile, story_id=story.story_id),
        lambda: Queue.objects.create(pk=2),
        lambda: Queue.objects.create(pk=Queue.THE_ONE),
    ):
        assert_impossible(write)

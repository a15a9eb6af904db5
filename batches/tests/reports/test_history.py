"""The checks of a profile in all batches, including repeated ones, with their stories."""

import pytest

from batches.batch_manager import BatchManager
from batches.models import Attempt, BatchProfile, Profile
from batches.reports.history import fetch_checks, fetch_history
from batches.tests.support.factories import check_batch, failed, make_batch, ok

pytestmark = pytest.mark.django_db


def check(batch, result):
    check_batch(batch, result)
    assert BatchManager().complete_batch(batch.pk)


def test_checks_come_newest_first_with_the_stories_and_those_that_were_repeated():
    first, second = make_batch("first", 2), make_batch("second", 1)
    check(first, ok("a", "b"))
    check(second, failed("gone"))
    assert BatchManager().queue_batch(first.pk)  # all again
    check(first, ok("a", "c"))
    profile = Profile.objects.get(url="https://example.org/0")
    found = fetch_history(profile, 10)
    assert [(it.batch.name, it.status, it.error, it.is_earlier) for it in found] == [
        ("first", "ok", "", False),
        ("second", "failed", "gone", False),
        ("first", "ok", "", True),
    ]
    assert [sorted(story.story_id for story in it.stories) for it in found] == [["c"], [], ["a", "b"]]
    assert [it.is_earlier for it in fetch_history(profile, 2)] == [False, False]
    assert BatchManager().delete_batch(second.pk)
    assert [it.batch.name for it in fetch_history(profile, 10)] == ["first", "first"]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pages_after_a_place_have_each_check_once_even_of_the_same_moment(size):
    for number in range(3):
        batch = make_batch(str(number), 1)
        check(batch, ok())
        assert BatchManager().queue_batch(batch.pk)
        check(batch, ok())
    profile = Profile.objects.get()
    moment = BatchProfile.objects.earliest("checked_at").checked_at
    for model in (BatchProfile, Attempt):
        model.objects.filter(batch__name__in=["1", "2"]).update(checked_at=moment)
    every = [it.place for it in fetch_checks(profile, 10)]
    assert len(every) == len(set(every)) == 6
    found, place = [], None
    while page := fetch_checks(profile, size, place):
        found += [it.place for it in page]
        place = found[-1]
    assert found == every


def test_batches_that_still_have_to_check_a_profile_are_left_out():
    make_batch("waiting", 1)
    check(make_batch("done", 1), ok())
    assert [it.batch.name for it in fetch_history(Profile.objects.get(), 10)] == ["done"]

"""The stories of a profile's first check are its baseline: known, but not new, counted or reported."""

import json

import pytest

from batches.batch_manager import BatchManager
from batches.models import Batch, Event, Profile, StoryResult, Webhook, WebhookDelivery
from batches.queue.refusals import Code
from batches.reports.comparison import compare
from batches.tests.support.factories import (
    assert_consistent,
    failed,
    half_known,
    make_batch,
    make_list,
    ok,
    profile_ids,
    propose_redirect,
    record,
    record_one,
    start_run,
    urls,
)

pytestmark = pytest.mark.django_db


def check(*story_ids, batch=None, result=None, count_first=False):
    """Check the only profile of a batch. Returns the batch, done."""
    run = start_run(batch or make_batch("it", 1, count_first=count_first))
    row = record_one(run, result or ok(*story_ids))
    assert BatchManager().finish_run(run.batch.pk, run.run_token)
    run.batch.refresh_from_db()
    assert row.has_story is (run.batch.stories_found > 0)
    assert_consistent()
    return run.batch


def new_ids(batch):
    assert batch.new_stories.count() == batch.stories_found
    return [story.story_id for story in batch.new_stories]


def baseline():
    return list(StoryResult.objects.filter(is_baseline=True).order_by("pk").values_list("story_id", flat=True))


def test_the_stories_of_a_first_read_are_stored_but_not_new():
    Webhook.objects.create(url="https://hook.example/")
    first = check("a", "b")
    assert (first.stories_found, new_ids(first), baseline()) == (0, [], ["a", "b"])
    assert Profile.objects.get().last_story_at is None
    [delivery] = WebhookDelivery.objects.filter(type=Event.BATCH_DONE)
    assert json.loads(delivery.payload)["data"]["batch"]["stories_found"] == 0
    second = check("c", "a", "b")
    assert (new_ids(second), baseline()) == (["c"], ["a", "b"])
    assert Profile.objects.get().last_story_at is not None


def test_an_old_story_that_comes_back_is_not_new():
    check("a", "b")
    assert new_ids(check("b")) == []
    assert new_ids(check()) == []
    assert new_ids(check("a", "b")) == []


def test_a_first_read_without_stories_is_one_too():
    check()
    assert new_ids(check("a")) == ["a"]


def test_a_failed_check_is_not_a_first_read():
    check(result=failed())
    assert new_ids(check("a")) == []
    assert new_ids(check("a", "b")) == ["b"]


def test_a_check_that_does_not_look_for_stories_is_not_a_first_read():
    check(result=ok(reads_stories=False))
    assert new_ids(check("a")) == []


def test_a_batch_can_count_the_stories_of_a_first_read():
    assert new_ids(check("a", "b", count_first=True)) == ["b", "a"]
    assert baseline() == []


def test_the_runs_of_a_list_count_the_first_read_as_the_list_says(manager):
    found = make_list("it", 1, count_first=False)
    assert manager.change_list(found.pk, count_first="yes").code == Code.BAD_VALUE
    assert manager.change_list(found.pk, count_first=True)
    run = manager.run_list(found.pk)
    assert run.count_first
    assert new_ids(check("a", batch=run)) == ["a"]
    assert manager.change_list(found.pk, count_first=False)
    assert not manager.repeat_batch(run.pk).count_first


def test_a_batch_that_is_kept_as_a_list_passes_on_what_it_counts(manager):
    assert manager.create_batch("News", urls(1), keep=True, count_first=True).list.count_first
    assert not manager.create_batch("Blogs", urls(1), keep=True).list.count_first


@pytest.mark.parametrize("again", [BatchManager.queue_batch, BatchManager.retry_failed])
def test_a_profile_that_was_read_before_has_no_new_baseline_when_a_batch_is_checked_again(again, manager):
    run = start_run(make_batch("it", 2, count_first=False))
    one, two = profile_ids(run.batch)
    record(run, [(one, ok("a")), (two, failed())])
    assert manager.finish_run(run.batch.pk, run.run_token)
    assert again(manager, run.batch.pk)
    run = start_run(run.batch)
    record(run, [(one, ok("a", "n")), (two, ok("b"))])
    assert manager.finish_run(run.batch.pk, run.run_token)
    batch = Batch.objects.get()
    assert new_ids(batch) == ([] if again is BatchManager.retry_failed else ["n"])
    assert "b" in baseline()
    assert_consistent()


def test_the_baseline_of_a_batch_is_available_on_request():
    assert not make_batch("another").has_baseline
    batch = half_known()
    assert new_ids(batch) == ["c", "b"]
    assert [story.story_id for story in batch.stories] == ["c", "b", "a"]
    assert batch.has_baseline


def test_a_comparison_counts_new_stories_only(manager):
    first = check("a")
    second = check("a", "b", batch=manager.repeat_batch(first.pk))
    assert compare(second).stories == 1


def test_a_corrected_address_has_a_new_baseline(manager):
    found = make_list("it", 1, count_first=False)
    check("a", "b")
    assert manager.correct_address(found.pk, urls(1)[0], "https://other.example/")
    assert new_ids(check("x", "y", batch=manager.run_list(found.pk))) == []
    assert baseline() == ["a", "b", "x", "y"]


def test_a_corrected_address_of_the_same_site_has_new_stories_at_once(manager):
    found = make_list("it", 1, count_first=False)
    check("a", "b")
    assert manager.correct_address(found.pk, urls(1)[0], "https://other.example/")
    assert new_ids(check("n", "a", "b", batch=manager.run_list(found.pk))) == ["n"]


def test_the_history_of_a_moved_profile_continues_at_its_new_address(manager):
    check("a")
    target = Profile.objects.create(url="https://new.example/")
    found = propose_redirect(urls(1)[0], target.url)
    before = found.profile.first_read_at
    assert manager.accept_redirect(found.pk).merged
    target.refresh_from_db()
    assert target.first_read_at == before
    assert new_ids(check("n", batch=manager.create_batch("it", [target.url]))) == ["n"]

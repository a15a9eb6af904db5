"""Permanent redirects: noted by checks, proposed after days, accepted by somebody, merged if the target is known."""

from datetime import timedelta

import pytest
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import BatchLog, Profile, ProfileList, Redirect, StoryResult
from batches.models.redirects import MIN_AGE, MIN_CHECKS
from batches.queue import redirect_calls
from batches.queue.refusals import Code
from batches.tests.support.factories import (
    assert_consistent,
    check_batch,
    failed,
    make_batch,
    make_list,
    ok,
    profile_ids,
    propose_redirect,
    record,
    start_run,
    unchanged,
    urls,
    urls_of,
)

pytestmark = pytest.mark.django_db

OLD, OTHER = urls(2)
NEW = "https://new.example/feed"


def check(*moved_to, error=""):
    """A check of OLD, once for each of these answers."""
    for target in moved_to:
        run = check_batch(make_batch("it", 1), failed(moved_to=target) if error else ok(moved_to=target))
        assert BatchManager().complete_batch(run.batch.pk)


def noted():
    return list(Redirect.objects.values_list("url", "checks"))


def test_checks_in_a_row_are_counted_and_another_answer_begins_again():
    check(NEW, NEW)
    first = Redirect.objects.get()
    check(f"{NEW}#x")
    assert noted() == [(NEW, 3)]
    again = Redirect.objects.get()
    assert again.first_seen_at == first.first_seen_at
    assert again.last_seen_at > first.last_seen_at
    check("https://another.example/")
    assert noted() == [("https://another.example/", 1)]
    assert Redirect.objects.get().first_seen_at > first.first_seen_at
    check("")
    assert noted() == []


@pytest.mark.parametrize("target", ["ftp://new.example/", "https://user@new.example/", "x" * 3000, OLD, f"{OLD}#top"])
def test_a_target_that_cannot_be_the_address_of_a_profile_is_not_noted(target):
    check(target)
    assert noted() == []


def test_a_check_that_did_not_ask_or_failed_changes_nothing():
    check(NEW)
    before = Redirect.objects.values().get()
    check(None)
    check(None, error="yes")
    assert Redirect.objects.values().get() == before


@pytest.mark.parametrize(
    ("checks", "age", "is_proposed"),
    [(MIN_CHECKS, MIN_AGE, True), (MIN_CHECKS - 1, MIN_AGE * 9, False), (99, MIN_AGE - timedelta(seconds=1), False)],
)
def test_only_redirects_that_several_checks_have_seen_over_days_can_be_accepted(checks, age, is_proposed, manager):
    moment = timezone.now()
    found = propose_redirect(OLD, NEW, checks=checks, first_seen_at=moment - age, last_seen_at=moment)
    assert Redirect.objects.proposed().exists() == is_proposed
    if is_proposed:
        assert manager.accept_redirect(found.pk)
        return
    with unchanged():
        assert manager.accept_redirect(found.pk).code == Code.NOT_FOUND


def test_an_accepted_redirect_gives_the_profile_its_new_address_and_leaves_its_history(manager):
    found = make_list("the list", 2)
    check_batch(make_batch("it", 1), ok("s", etag="1", fingerprint="f"))
    before = Profile.objects.get(url=OLD)
    accepted = manager.accept_redirect(propose_redirect(OLD, NEW).pk, expected_url=NEW)
    assert (accepted.profile_id, str(accepted)) == (before.pk, f"{OLD} → {NEW}")
    after = Profile.objects.get(pk=before.pk)
    assert (after.url, after.etag, after.fingerprint) == (NEW, "1", "f")
    assert StoryResult.objects.get().profile == after
    assert urls_of(found) == [NEW, OTHER]
    assert not Redirect.objects.exists()
    line = BatchLog.objects.latest("pk")
    assert (line.action, line.actor, line.channel, line.list) == ("accept_redirect", "ada", "api", found)
    assert line.message == f"{OLD} → {NEW}"
    found.refresh_from_db()
    assert found.version == 2


def test_a_target_that_is_a_profile_takes_the_place_of_the_old_one_with_its_stories(manager):
    both, only = make_list("both", 2), ProfileList.objects.get(pk=manager.create_list("only", [OLD]).pk)
    batch = make_batch("it", 2)
    check_batch(batch, ok("shared", "own"), ok("shared"))
    old, target = profile_ids(batch)
    assert manager.complete_batch(batch.pk)
    Profile.objects.filter(pk=old).update(name="Its name")
    found = propose_redirect(OLD, OTHER)
    assert Redirect.objects.proposed().get().merges
    accepted = manager.accept_redirect(found.pk)
    assert (accepted.profile_id, accepted.merged, str(accepted)) == (target, True, f"{OLD} → {OTHER} (merged)")
    assert urls_of(both) == urls_of(only) == [OTHER]
    assert set(StoryResult.objects.filter(profile=target).values_list("story_id", flat=True)) == {"shared", "own"}
    assert Profile.objects.get(pk=target).name == "Its name"
    assert urls_of(batch) == [OLD, OTHER]  # the addresses that were checked then
    assert BatchLog.objects.filter(action="accept_redirect").count() == 2
    assert_consistent()
    run = start_run(make_batch("again", 2))
    record(run, [(target, ok("shared", "own"))])
    run.batch.refresh_from_db()
    assert StoryResult.objects.filter(batch=run.batch).count() == 0


@pytest.mark.parametrize("value", [None, True, "", "x", "1" * 30, -1, 1.5, "١", object()])
def test_a_value_that_is_not_the_id_of_a_proposal_is_not_found(value, manager):
    propose_redirect(OLD, NEW, checks=1)
    with unchanged():
        assert manager.accept_redirect(value).code == Code.NOT_FOUND
        assert manager.find_redirect(value).code == Code.NOT_FOUND


def test_many_are_accepted_separately_if_they_have_not_changed(manager):
    make_batch("it", 5)
    for number, url in enumerate(urls(5)):
        propose_redirect(url, f"https://new.example/{number}")
    proposals = list(Redirect.objects.proposed())
    Redirect.objects.filter(pk=proposals[1].pk).update(url="https://elsewhere.example/")
    results = manager.accept_redirects(proposals)
    assert [bool(result) or result.code for result in results] == [True, Code.STALE_VERSION, True, True, True]
    assert Redirect.objects.get().pk == proposals[1].pk
    assert Profile.objects.filter(url__startswith="https://new.example/").count() == 4


def test_a_target_that_becomes_a_profile_at_the_same_time_is_refused(manager, monkeypatch):
    redirect, find, found = propose_redirect(OLD, NEW), redirect_calls.find_proposal, []

    def find_twice(redirect_id):
        if found:
            Profile.objects.create(url=NEW)
        found.append(redirect_id)
        return find(redirect_id)

    monkeypatch.setattr(redirect_calls, "find_proposal", find_twice)
    with unchanged():
        refusal = manager.accept_redirect(redirect.pk)
        assert refusal.message == f"The address {NEW} has just become a profile. Try again."

"""The topics and the contents of messages to subscriptions."""

import json
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import ProfileList, StoryResult, WebhookDelivery
from batches.notifications import message_data, outbox
from batches.notifications.message_data import prepare_messages
from batches.tests.support.factories import (
    failed,
    make_batch,
    make_list,
    ok,
    profile_ids,
    record,
    run_list,
    start_run,
    story_of,
    subscribe,
    with_stories,
)
from batches.tests.support.tables import statements_of

from .conftest import deliveries, letters, only_delivery, pass_time

pytestmark = pytest.mark.django_db

FAILURES = [failed()] * 6


def read_contents():
    """The content of each message to send."""
    prepare_messages()
    rows = WebhookDelivery.objects.claimable().order_by("pk")
    return [json.loads(row.payload)["data"] for row in rows]


def press(profiles=1, **options):
    """The list "Press" with this subscription."""
    found = make_list("Press", profiles)
    subscribe(found, **options)
    return found


def check_again(batch, call, *results):
    """Check the profiles that are pending after this call, with these results."""
    assert call(batch.pk)
    BatchManager().finish_resets()
    batch.refresh_from_db()
    run = start_run(batch)
    pending = batch.profiles.filter(status="pending").order_by("pk").values_list("profile_id", flat=True)
    record(run, zip(pending, results, strict=True))
    assert BatchManager().complete_batch(batch.pk)


# Which runs are reported


@pytest.mark.parametrize(
    ("topics", "error", "expected"),
    [
        (["stories"], "", ["stories"]),
        (["done"], "", ["done"]),
        (["error"], "", None),
        (["failures"], "", ["failures"]),
        (["stories", "done", "error", "failures"], "", ["stories", "failures", "done"]),
        (["stories", "error", "done"], "It broke.", ["stories", "error"]),
        (["done"], "It broke.", None),
    ],
)
def test_a_run_is_one_message_about_the_topics_that_somebody_wants(topics, error, expected):
    run_list(press(7, topics=topics), with_stories(story_of(1)), *FAILURES, error=error)
    contents = read_contents()
    assert [content["topics"] for content in contents] == ([expected] if expected else [])
    assert WebhookDelivery.objects.count() == len(contents)


def test_without_news_there_is_no_message_and_none_about_other_lists_and_batches_without_a_list():
    run_list(press(2, topics=["stories", "failures", "error"]), ok(), ok())
    run_list(make_list("Other", 1), with_stories(story_of(1)))
    assert BatchManager().handle_error(make_batch("it", 1).pk, "It broke.")
    assert read_contents() == []
    assert deliveries() == []


def test_a_baseline_is_not_reported():
    run_list(press(), with_stories(story_of(1), story_of(2)))
    StoryResult.objects.filter(story_id="1").update(is_baseline=True)
    [content] = read_contents()
    assert content["stories"]["total"] == 1


def test_a_batch_that_is_retried_or_queued_again_reports_each_story_once():
    batch = run_list(press(2), with_stories(story_of(1)), failed())
    prepare_messages()
    check_again(batch, BatchManager().retry_failed, with_stories(story_of(2)))
    check_again(batch, BatchManager().queue_batch, with_stories(story_of(1), story_of(3)), with_stories(story_of(4)))
    stories = [content["stories"]["profiles"] for content in read_contents()]
    titles = [[story["title"] for profile in profiles for story in profile["stories"]] for profiles in stories]
    assert titles == [["Story 1"], ["Story 2"], ["Story 3", "Story 4"]]


@pytest.mark.parametrize(
    ("checks", "before", "percent", "is_reported"),
    [
        ([ok()] * 3 + FAILURES, None, 66, True),
        ([ok()] * 3 + FAILURES, None, 67, False),
        (FAILURES, [failed()] * 3 + [ok()] * 6, 100, True),
        (FAILURES, [failed()] * 4 + [ok()] * 5, 100, False),
        (FAILURES[:4], [ok()] * 9, 20, False),  # too few to matter
        ([ok()], None, 0, False),
    ],
    ids=["a share", "a smaller share", "twice as many", "not twice", "four", "none"],
)
def test_many_failures_are_a_share_or_twice_the_previous_run(checks, before, percent, is_reported):
    found = make_list("Press", 9)
    if before:
        run_list(found, *before)
    subscribe(found, topics=["failures"], failed_percent=percent)
    run_list(found, *checks)
    assert len(read_contents()) == is_reported


def test_a_profile_is_reported_once_when_it_begins_to_fail_and_once_when_it_recovers():
    found = press(2, topics=["failing", "recovered"], after_failures=2)
    pause = failed("It asks for a pause.", host_paused=True)
    for result in (failed("Gone."), failed("Gone."), pause, failed("Gone."), ok(), ok(), failed(), pause, ok()):
        run_list(found, result, ok())
        prepare_messages()
    reported = [
        (content["topics"], [profile["error"] for profile in content[content["topics"][0]]["profiles"]])
        for content in read_contents()
    ]
    assert reported == [(["failing"], ["Gone."]), (["recovered"], [""])]
    assert [letter.subject for letter in letters()] == [
        "1 profile began to fail in “Press”",
        "1 profile recovered in “Press”",
    ]
    assert "Began to fail: 1\n  - https://example.org/0: Gone.\n" in letters()[0].text


def test_changes_that_another_list_has_seen_in_between_are_reported_too():
    found, other = make_list("Press", 1), make_list("Other", 1)
    subscribe(found, topics=["failing", "recovered"], after_failures=2)
    run_list(found, ok())
    for result in (failed(), failed(), failed()):
        run_list(other, result)
    run_list(found, failed())
    prepare_messages()
    run_list(found, failed())
    prepare_messages()
    run_list(other, ok())
    run_list(found, ok())
    run_list(found, ok())
    for one in (found, other, found, found):  # the list has seen the first failure, but the other one the second
        run_list(one, failed())
        prepare_messages()
    assert [content["topics"] for content in read_contents()] == [["failing"], ["recovered"], ["failing"]]


def test_changes_that_a_run_with_an_error_has_reported_are_not_reported_again():
    found = press(2, topics=["failing", "recovered"], after_failures=1)
    run_list(found, ok(), ok())
    batch = run_list(found, failed(), error="It broke.")
    assert [content["failing"]["total"] for content in read_contents()] == [1]
    check_again(batch, BatchManager().queue_batch, failed())
    run_list(found, ok(), failed(), error="It broke.")
    run_list(found, ok(), failed())
    reported = [{topic: content[topic]["total"] for topic in content["topics"]} for content in read_contents()]
    assert reported == [{"failing": 1}, {"failing": 1}, {"recovered": 1}]


def test_a_retry_reports_only_news_since_the_first_message():
    batch = run_list(press(2, topics=["failing", "recovered"], after_failures=1), failed(), failed())
    assert [content["failing"]["total"] for content in read_contents()] == [2]
    check_again(batch, BatchManager().retry_failed, ok(), failed())
    check_again(batch, BatchManager().retry_failed, ok())
    assert [content.get("recovered", {}).get("total") for content in read_contents()] == [None, 1, 1]


def test_profiles_that_changed_are_capped(monkeypatch):
    monkeypatch.setattr(message_data, "MAX_PROFILES", 2)
    run_list(press(5, topics=["failing"], after_failures=1), *[failed()] * 5)
    [content] = read_contents()
    assert (content["failing"]["total"], len(content["failing"]["profiles"])) == (5, 2)
    assert "  and 3 more\n" in letters()[0].text
    assert "<li>and 3 more</li>" in letters()[0].html


# Contents


def test_stories_are_grouped_by_profile_and_capped_with_a_link(configure, monkeypatch):
    configure(base_url="https://batches.example.org")
    monkeypatch.setattr(message_data, "MAX_STORIES", 4)
    batch = run_list(press(4), *(with_stories(*(story_of(n * 10 + m) for m in range(3))) for n in range(4)))
    [content] = read_contents()
    assert content["stories"]["total"] == 12
    assert [len(profile["stories"]) for profile in content["stories"]["profiles"]] == [3, 1]
    [letter] = letters()
    assert letter.subject == "12 new stories in “Press”"
    link = f"https://batches.example.org/admin/batches/storyresult/?batch={batch.pk}"
    assert f"and 8 more: {link}" in letter.text
    assert f'and <a href="{link}">8 more</a>' in letter.html


def test_the_characters_of_a_message_are_limited(monkeypatch):
    monkeypatch.setattr(message_data, "MAX_SIZE", 1000)
    run_list(press(), with_stories(*(story_of(number, "x" * 500) for number in range(10))))
    [content] = read_contents()
    stories = content["stories"]["profiles"][0]["stories"]
    assert [len(story["title"]) for story in stories] == [message_data.MAX_TITLE] * 3


def test_the_words_of_each_kind_of_message():
    found = make_list("Press", 7)
    subscription = subscribe(found, topics=["done", "error", "failures", "stories"])
    run_list(found, *[ok()] * 7)
    run_list(found, ok(), *FAILURES)
    run_list(found, error="It broke.\nAnd more.")
    assert BatchManager().send_test_message(subscription.pk)
    assert [letter.subject for letter in letters()] == [
        "“Press” is done: 7 ok, 0 failed",
        "6 of 7 profiles failed in “Press”",
        "“Press” stopped with an error: It broke. And more.",
        "Test message for “Press”",
    ]


def test_the_content_is_from_the_end_of_the_run_even_if_it_is_prepared_later():
    batch = run_list(press(2, topics=["done"]), ok(), failed())
    assert BatchManager().retry_failed(batch.pk)
    [content] = read_contents()
    assert (content["batch"]["status"], content["batch"]["failed_checks"]) == ("done", 1)


def test_a_message_of_a_newer_version_waits_and_delays_no_other():
    found = press(topics=["done"])
    run_list(found, ok())
    WebhookDelivery.objects.update(type="list.unknown")
    run_list(found, ok())
    assert len(read_contents()) == 1
    assert WebhookDelivery.objects.to_prepare().count() == 1


def test_a_deleted_batch_is_not_reported():
    found = press(topics=["done"])
    assert BatchManager().delete_batch(run_list(found, ok()).pk)
    BatchManager().purge_deleted()
    assert read_contents() == []
    assert deliveries() == []


def test_a_forgotten_profile_is_in_no_message_neither_waiting_nor_sent():
    found, digested = make_list("Press", 2), make_list("Digested", 1)
    subscribe(found, topics=["stories", "failing"], after_failures=1)
    subscribe(digested, digest_hour=in_twelve_hours())
    batch = run_list(found, with_stories(story_of("secret")), with_stories(story_of("public")))
    run_list(digested, with_stories(story_of("digested")))
    prepare_messages()
    pass_time()
    prepare_messages()
    [sent] = outbox.claim_due(1, {}, 1)
    outbox.settle(sent, outbox.AttemptResult(200))
    assert {row.type for row in deliveries()} == {"list.run", "list.digest_part", "list.digest"}
    assert BatchManager().forget_profile(profile_ids(batch)[0])
    prepare_messages()
    payloads = "".join(row.payload for row in deliveries())
    assert "public" in payloads
    assert "secret" not in payloads
    assert "digested" not in payloads


# Digests


def in_twelve_hours(zone="UTC"):
    """An hour for digests that does not come during the test."""
    return (timezone.localtime(timezone=ZoneInfo(zone)).hour + 12) % 24


def test_a_digest_waits_for_its_hour_and_is_one_message_about_the_runs_of_the_day():
    found = make_list("Press", 1)
    assert BatchManager().change_list(found.pk, time_zone="Asia/Kolkata")
    hour = in_twelve_hours("Asia/Kolkata")
    subscribe(found, topics=["stories"], digest_hour=hour)
    for number in range(3):
        run_list(found, with_stories(story_of(number), story_of(f"also {number}")))
    run_list(found, ok())
    assert read_contents() == []
    parts = deliveries()
    assert len(parts) == 3
    for part in parts:
        due = part.next_attempt_at.astimezone(ZoneInfo("Asia/Kolkata"))
        assert (due.hour, due.minute) == (hour, 0)
        assert timezone.now() < part.next_attempt_at <= timezone.now() + timedelta(days=1)
    pass_time()
    assert outbox.claim_due(10, {}, 10) == []  # the parts are due, but not merged yet
    [letter] = letters()
    assert letter.subject == "6 new stories in “Press”, 3 runs of a day"
    assert letter.text.count("- Story") == 6
    [digest] = WebhookDelivery.objects.waiting()
    assert read_contents() == [json.loads(digest.payload)["data"]]
    assert [part.state for part in deliveries()] == ["delivered"] * 3 + ["waiting"]


def test_a_story_of_yesterdays_digest_is_not_reported_again():
    batch = run_list(press(digest_hour=in_twelve_hours()), with_stories(story_of(1)))
    prepare_messages()
    pass_time()
    assert len(letters()) == 1
    assert BatchManager().queue_batch(batch.pk)
    assert BatchManager().complete_batch(batch.pk)
    prepare_messages()
    assert len(deliveries()) == 2


def test_a_digest_has_no_more_stories_than_other_messages(monkeypatch):
    monkeypatch.setattr(message_data, "MAX_STORIES", 3)
    monkeypatch.setattr(message_data, "MAX_RUNS", 2)
    found = press(digest_hour=in_twelve_hours())
    for number in range(3):
        run_list(found, with_stories(story_of(number), story_of(f"also {number}")))
    prepare_messages()
    pass_time()
    [content] = read_contents()
    assert [[len(profile["stories"]) for profile in run["stories"]["profiles"]] for run in content["runs"]] == [
        [2],
        [1],
    ]
    assert (content["runs_total"], content["stories_total"]) == (3, 6)
    [letter] = letters()
    assert "and 1 more run" in letter.text


def test_the_digest_of_a_list_without_a_valid_time_zone_uses_utc():
    found = press(topics=["done"], digest_hour=7)
    ProfileList.objects.update(time_zone="Atlantis/City")
    run_list(found, ok())
    assert only_delivery().next_attempt_at.hour == 7


# Costs


def test_a_run_costs_one_query_without_subscriptions_and_three_with_fifty():
    def count_queries(found):
        batch = BatchManager().run_list(found.pk)
        statements = statements_of(lambda: BatchManager().complete_batch(batch.pk))
        return sum("batches_subscription" in sql for sql in statements), len(statements)

    found, other = make_list("Press", 1), make_list("Other", 1)
    for number in range(50):
        subscribe(found, f"ada{number}@example.org", topics=["done"])
    without, with_fifty = count_queries(other), count_queries(found)
    assert (without[0], with_fifty[0]) == (1, 1)
    assert with_fifty[1] - without[1] == 2
    assert len(deliveries()) == 50


def test_an_inactive_subscription_gets_nothing_and_its_messages_wait():
    found = make_list("Press", 1)
    on, off = subscribe(found, topics=["done"]), subscribe(found, "off@example.org", topics=["done"], is_active=False)
    run_list(found, ok())
    assert [row.subscription for row in deliveries()] == [on]
    assert BatchManager().change_subscription(on.pk, is_active=False)
    assert read_contents() == []
    assert BatchManager().change_subscription(on.pk, is_active=True)
    assert len(read_contents()) == 1
    assert off.deliveries.count() == 0

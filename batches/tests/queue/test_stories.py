"""Stories are stored once, also when the site changes their ids, or a new version of the reader does.

The stories of a profile's first check are its baseline: known, but not new, counted or reported.
"""

import json
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult, Story
from batches.checking.checkers.reading import Body, read
from batches.models import Batch, Event, Profile, StoryResult, Webhook, WebhookDelivery
from batches.queue import stories as stories_module
from batches.tests.support.factories import (
    assert_consistent,
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
    values_of,
)
from batches.tests.support.tables import explain

pytestmark = pytest.mark.django_db

SITE = "http://site.example/"
MONDAY, TUESDAY = (datetime(2024, 1, day, 10, 0, 0, 250_000, tzinfo=UTC) for day in (1, 2))


def story(identity, title="One", path="1", published=None):
    return Story(identity, title, SITE + path if path else "", published)


def find(*stories):
    """Record a check of one profile. Returns the ids that are new, in the order of the document."""
    return find_each([stories])[0]


def find_each(documents):
    """The same for a check of several profiles. Each has its document."""
    batch = make_batch("it", len(documents))
    run, ids = start_run(batch), profile_ids(batch)
    before = set(StoryResult.objects.values_list("profile", "story_id"))
    record(run, [(pk, CheckResult(True, stories=stories)) for pk, stories in zip(ids, documents, strict=True)])
    new = list(StoryResult.objects.filter(batch=batch).order_by("pk"))
    found = [[story.story_id for story in new if story.profile_id == pk] for pk in ids]
    assert values_of(batch.pk)["stories_found"] == len(new)
    assert list(batch.profiles.order_by("pk").values_list("has_story", flat=True)) == list(map(bool, found))
    assert before.isdisjoint((story.profile_id, story.story_id) for story in new)
    assert BatchManager().complete_batch(batch.pk)
    return found


def secure(given):
    return Story(
        given.id.replace("http:", "https:"), given.title, given.url.replace("http:", "https:"), given.published
    )


#: Two documents, and the ids of the second that are new.
PAIRS = {
    "the same": ([story("a"), story("b", "Two")], [story("a"), story("b", "Two")], ""),
    "other ids": ([story("a"), story("b", "Two")], [story("c"), story("d", "Two")], ""),
    "other ids and a new story": ([story("a")], [story("n", "New", "n"), story("c")], "n"),
    "from http to https": ([story("http://a"), story("http://b", "Two")], [secure(story("http://a"))], ""),
    "to another host name and path": ([story("a")], [Story("c", "One", "https://www.site.example/1/")], ""),
    "the same dates": ([story("a", published=MONDAY)], [story("c", published=MONDAY)], ""),
    "another date": ([story("a", published=MONDAY)], [story("c", published=TUESDAY)], "c"),
    "its date is gone": ([story("a", published=MONDAY)], [story("c")], ""),
    "a date at last": ([story("a")], [story("c", published=MONDAY)], ""),
    "another title": ([story("a")], [story("c", "Two")], "c"),
    "another link": ([story("a")], [story("c", path="2")], "c"),
    "another site": ([story("a", published=MONDAY)], [Story("c", "One", "https://new.example/?p=1", MONDAY)], ""),
    "another link, but two had its title and date": (
        [story("a", published=MONDAY), story("b", path="2", published=MONDAY)],
        [story("c", path="3", published=MONDAY)],
        "c",
    ),
    "two other links for one": (
        [story("a", published=MONDAY)],
        [story("c", path="2", published=MONDAY), story("d", path="3", published=MONDAY)],
        "d",
    ),
    "no title": ([story("a", "")], [story("c", "")], "c"),
    "no link": ([story("a", path="")], [story("c", path="")], "c"),
    "no link but a date": ([story("a", path="", published=MONDAY)], [story("c", path="", published=MONDAY)], ""),
    "no link and another date": ([story("a", path="", published=MONDAY)], [story("c", path="")], "c"),
    "two for one": ([story("a")], [story("c"), story("d")], "d"),
    "two for two": ([story("a"), story("b")], [story("c"), story("d"), story("e")], "e"),
    "a new one beside the old one": ([story("a")], [story("c"), story("a")], "c"),
    "the second of two dates": (
        [story("a", published=MONDAY), story("b", published=TUESDAY)],
        [story("c", published=TUESDAY), story("d", published=TUESDAY)],
        "d",
    ),
    # Less than half of the ids are new, so ids are to be trusted.
    "one other id of three": (
        [story("a"), story("b", "Two"), story("d", "Three")],
        [story("c"), story("b", "Two"), story("d", "Three")],
        "c",
    ),
    "one other id of two": ([story("a"), story("b", "Two")], [story("c"), story("b", "Two")], ""),
    "nothing": ([story("a")], [], ""),
}


def test_a_story_is_known_by_link_title_and_date_when_ids_have_changed():
    firsts, seconds, new = zip(*PAIRS.values(), strict=True)
    assert find_each(firsts) == [[given.id for given in first] for first in firsts]
    assert dict(zip(PAIRS, find_each(seconds), strict=True)) == dict(zip(PAIRS, map(list, new), strict=True))
    assert not any(find_each(seconds))


def test_the_stories_that_were_found_last_are_compared(monkeypatch):
    monkeypatch.setattr(stories_module, "MAX_KNOWN", 2)
    find(story("z", "One"), story("y", "Two"), story("x", "Three"))
    assert find(story("a", "One"), story("b", "Two"), story("c", "Three")) == ["a"]


@pytest.mark.parametrize("profiles", [1, 10])
def test_profiles_with_changed_story_ids_are_read_in_few_statements(profiles):
    for number, statements in ((1, 2), (2, 3)):
        run = start_run(make_batch("it", profiles))
        results = [(pk, CheckResult(True, stories=[story(f"{number}")])) for pk in profile_ids(run.batch)]
        with CaptureQueriesContext(connection) as captured:
            record(run, results)
        assert len([query for query in captured if "storyresult" in query["sql"]]) == statements
        assert BatchManager().complete_batch(run.batch.pk)
    assert StoryResult.objects.count() == profiles


#: The stories of the previous reader: ids, titles, addresses and dates. Some ids are different now.
READ_BEFORE = {
    """<rss><channel><link>http://site.example/</link>
    <item><title>One</title><link>http://site.example/1</link><guid>tag:1</guid>
      <pubDate>Mon, 01 Jan 2024 10:00:00 GMT</pubDate></item>
    <item><title>Two</title><link>http://site.example/2</link></item>
    <item><title>No link</title><description>Some  text</description></item>
    <item><title>Home</title><link>http://site.example</link><pubDate>Tue, 02 Jan 2024 10:00:00 +0200</pubDate></item>
    <item><guid>http://site.example/5</guid><description>Untitled</description></item></channel></rss>""": [
        ("tag:1", "One", "http://site.example/1", datetime(2024, 1, 1, 10, tzinfo=UTC)),
        ("http://site.example/2", "Two", "http://site.example/2", None),
        ("e5742edad79f3b6f9aa7b7c3d8659b6af1648f8ac997101ef9938254512cef7f", "No link", "", None),
        (
            "99bfff3e7306b87cfb98f7b8b71cb4e8b1a04852370568ad2d5054d4588e44b2",
            "Home",
            "http://site.example",
            datetime(2024, 1, 2, 8, tzinfo=UTC),
        ),
        ("http://site.example/5", "", "http://site.example/5", None),
    ],
}


def test_stories_of_an_earlier_version_are_not_new_again():
    stored = [[Story(*values) for values in stories] for stories in READ_BEFORE.values()]
    assert find_each(stored) == [[story.id for story in stories] for stories in stored]
    found = zip(READ_BEFORE, find_each([read_stories(document) for document in READ_BEFORE]), strict=True)
    assert {document: new for document, new in found if new} == {}


def test_only_lost_stories_of_a_shared_id_are_new():
    assert find(Story("N/A", "One", f"{SITE}1")) == ["N/A"]
    items = (
        f"<item><guid>N/A</guid><title>{title}</title><link>{SITE}{n}</link></item>"
        for n, title in ((1, "One"), (2, "Two"))
    )
    one, two = read_stories(f"<rss><channel>{''.join(items)}</channel></rss>")
    assert find(one, two) == [two.id]


def read_stories(document):
    reading = read(Body(document.encode(), f"{SITE}feed"), thoroughly=True)
    assert reading is not None
    return reading.stories


@pytest.mark.slow
def test_the_index_finds_the_last_stories_of_a_profile(statistics):
    """Without it, PostgreSQL would read all stories from the end to find some of one profile."""
    batch = Batch.objects.create(name="it")
    profiles = Profile.objects.bulk_create(Profile(url=f"{SITE}{number}") for number in range(200))
    StoryResult.objects.bulk_create(
        StoryResult(profile=profile, batch=batch, story_id=str(number)) for number in range(100) for profile in profiles
    )
    statistics()
    with CaptureQueriesContext(connection) as captured:
        list(stories_module.fetch_known([profile.pk for profile in profiles[:10]]))
    assert "storyresult_of_profile" in explain(captured[0]["sql"])


# The baseline: the stories of a profile's first check


def check_one(*story_ids, batch=None):
    """Check the only profile of a batch. Returns the batch, done."""
    run = start_run(batch or make_batch("it", 1, count_first=False))
    row = record_one(run, ok(*story_ids))
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
    first = check_one("a", "b")
    assert (first.stories_found, new_ids(first), baseline()) == (0, [], ["a", "b"])
    assert Profile.objects.get().last_story_at is None
    [delivery] = WebhookDelivery.objects.filter(type=Event.BATCH_DONE)
    assert json.loads(delivery.payload)["data"]["batch"]["stories_found"] == 0
    second = check_one("c", "a", "b")
    assert (new_ids(second), baseline()) == (["c"], ["a", "b"])
    assert Profile.objects.get().last_story_at is not None


def test_the_runs_of_a_list_count_the_first_read_as_the_list_says(manager):
    found = manager.create_batch("it", urls(1), keep=True, count_first=True, queue=False).list
    run = manager.run_list(found.pk)
    assert new_ids(check_one("a", batch=run)) == ["a"]
    assert manager.change_list(found.pk, count_first=False)
    assert not manager.repeat_batch(run.pk).count_first


def test_the_baseline_of_a_batch_is_available_on_request():
    assert not make_batch("another").has_baseline
    batch = half_known()
    assert new_ids(batch) == ["c", "b"]
    assert [story.story_id for story in batch.stories] == ["c", "b", "a"]
    assert batch.has_baseline


@pytest.mark.parametrize(("stories", "new"), [(["x", "y"], []), (["n", "a", "b"], ["n"])], ids=["another", "the same"])
def test_a_corrected_address_has_a_new_baseline_unless_the_site_is_the_same(stories, new, manager):
    found = make_list("it", 1, count_first=False)
    check_one("a", "b")
    assert manager.correct_address(found.pk, urls(1)[0], "https://other.example/")
    assert new_ids(check_one(*stories, batch=manager.run_list(found.pk))) == new


def test_the_history_of_a_moved_profile_continues_at_its_new_address(manager):
    check_one("a")
    target = Profile.objects.create(url="https://new.example/")
    found = propose_redirect(urls(1)[0], target.url)
    before = found.profile.first_read_at
    assert manager.accept_redirect(found.pk).merged
    target.refresh_from_db()
    assert target.first_read_at == before
    assert new_ids(check_one("n", batch=manager.create_batch("it", [target.url]))) == ["n"]

"""Feeds of new stories: our own reader and another one can read them, only with a key, which no log contains."""

import json
import logging
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import feedparser
import pytest
from django.core.cache import cache
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from batches.batch_manager import BatchManager
from batches.checking.checkers.parse import read_quickly
from batches.checking.checkers.stories import make_stories
from batches.models import BatchLog, ListFeed, Profile, StoryResult
from batches.models.api import StoredResponse
from batches.reports import new_stories
from batches.tests.support.factories import make_list
from batches.tests.support.tables import every_table, explain

from .conftest import nothing_changes, refusal_of

pytestmark = pytest.mark.django_db

HOSTILE = 'A <b>bold</b> "title" & more\x07\x0b\ufffe ]]> </title>'
READABLE = 'A <b>bold</b> "title" & more ]]> </title>'


@pytest.fixture
def people():
    return make_list("People & <friends>", 3)


@pytest.fixture
def profiles(people):
    return [member.profile for member in people.profiles.order_by("pk")]


@pytest.fixture
def feed(client, people):
    answer = client.post("/api/v1/feeds/", {"list": str(people.pk), "name": "The newsroom"})
    assert answer.status_code == 201, answer.content
    return answer.json()


def find(profile, title="A story", **values):
    number = StoryResult.objects.count()
    url = f"https://example.org/stories/{number}"
    return StoryResult.objects.create(profile=profile, story_id=f"id {number}", **{"title": title, "url": url} | values)


def get(url, **headers):
    return APIClient().get(url, headers=headers)


def titles_in(feed):
    answer = get(feed["json_url"])
    assert answer.status_code == 200, answer.content
    return [item["title"] for item in json.loads(answer.content)["items"]]


def key_of(feed):
    [key] = parse_qs(urlsplit(feed["atom_url"]).query)["token"]
    return key


# Its contents


@pytest.mark.parametrize("kind", ["atom", "json"])
def test_our_own_reader_reads_what_we_write(feed, profiles, kind):
    published = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    find(profiles[0], HOSTILE, published_at=published)
    find(profiles[1], "Zürich 🎉", url="https://example.org/%C3%A9?a=1&b=2")
    answer = get(feed[f"{kind}_url"])
    stories = make_stories(read_quickly(answer.content), feed[f"{kind}_url"])
    assert [story.title for story in stories] == ["Zürich 🎉", READABLE.replace("<b>", "").replace("</b>", "")]
    assert [story.url for story in stories] == ["https://example.org/%C3%A9?a=1&b=2", "https://example.org/stories/0"]
    assert stories[1].published == published
    again = make_stories(read_quickly(get(feed[f"{kind}_url"]).content), "")
    assert [story.id for story in again] == [story.id for story in stories]
    other_kind = get(feed["json_url" if kind == "atom" else "atom_url"]).content
    assert [story.id for story in make_stories(read_quickly(other_kind), "")] == [story.id for story in stories]


def test_another_reader_reads_the_same_and_what_rfc_4287_requires(feed, people, profiles):
    Profile.objects.filter(pk=profiles[0].pk).update(name="Ada & co")
    published = timezone.now().replace(microsecond=0) - timedelta(days=3)
    untitled, story = find(profiles[1], ""), find(profiles[0], HOSTILE, published_at=published)
    read = feedparser.parse(get(feed["atom_url"]).content)
    assert not read.bozo
    assert read.version == "atom10"
    assert read.feed.title == read.feed.author == "People & <friends>"
    assert (read.feed.id, read.feed.link) == (people.pk.urn, "http://testserver/")
    entry, other = read.entries
    assert (other.title, other.link, other.author) == ("(untitled)", untitled.url, "example.org")
    assert read.feed.updated == max(entry.updated, other.updated)
    assert (entry.title, entry.link, entry.author) == (READABLE, story.url, "Ada & co")
    assert entry.author_detail.href == profiles[0].url
    assert datetime(*entry.published_parsed[:6], tzinfo=UTC) == published
    assert datetime(*entry.updated_parsed[:6], tzinfo=UTC) == story.found_at.replace(microsecond=0)
    assert entry.id.startswith("urn:uuid:")
    assert entry.id != other.id


def test_json_has_what_json_feed_1_1_requires(feed, profiles):
    find(profiles[0], "")
    document = json.loads(get(feed["json_url"]).content)
    assert document["version"] == "https://jsonfeed.org/version/1.1"
    assert document["title"] == "People & <friends>"
    [item] = document["items"]
    assert item["content_text"]
    assert isinstance(item["id"], str)
    assert item["authors"] == [{"name": "example.org", "url": profiles[0].url}]


def test_a_link_is_one_of_the_web_or_the_profile(feed, profiles):
    find(profiles[0], "script", url="javascript:alert(1)")
    find(profiles[0], "none", url="")
    urls = [item["url"] for item in json.loads(get(feed["json_url"]).content)["items"]]
    assert urls == [profiles[0].url] * 2


@pytest.mark.parametrize("few", [5_000, 2], ids=["by profile", "by story"])
def test_it_has_the_latest_hundred_new_stories_of_the_profiles_that_are_in_the_list_now(
    feed, people, profiles, monkeypatch, few
):
    monkeypatch.setattr(new_stories, "FEW_PROFILES", few)
    monkeypatch.setattr(new_stories, "FEED_STORIES", 4)
    stranger = Profile.objects.create(url="https://stranger.example/")
    find(profiles[2], "too old")
    for number in range(4):
        find(profiles[number % 2], str(number))
        find(stranger, "of another list")
        find(profiles[0], "of the first read", is_baseline=True)
    assert titles_in(feed) == ["3", "2", "1", "0"]
    manager = BatchManager()
    assert manager.remove_profiles(people.pk, [profiles[1].url])
    assert manager.add_profiles(people.pk, [stranger.url])
    monkeypatch.setattr(new_stories, "FEED_STORIES", 2)
    assert titles_in(feed) == ["of another list", "of another list"]


def test_the_feed_of_a_long_list_searches_the_latest_stories_of_all_lists(feed, profiles, monkeypatch):
    monkeypatch.setattr(new_stories, "FEW_PROFILES", 2)
    monkeypatch.setattr(new_stories, "LATEST_STORIES", 2)
    for number in range(3):
        find(profiles[0], str(number))
    assert titles_in(feed) == ["2", "1"]


@pytest.mark.parametrize("few", [5_000, 2], ids=["by profile", "by story"])
def test_it_costs_as_many_queries_for_many_stories_and_uses_their_indexes(feed, profiles, monkeypatch, few):
    monkeypatch.setattr(new_stories, "FEW_PROFILES", few)
    get(feed["atom_url"])
    costs = []
    for _ in range(2):
        for profile in profiles:
            find(profile)
        with CaptureQueriesContext(connection) as captured:
            get(feed["atom_url"])
        costs.append([query["sql"] for query in captured])
    assert len(costs[0]) == len(costs[1]) == 3
    for sql in costs[1]:
        plan = explain(sql)
        assert "Seq Scan" not in plan, plan
        assert "SCAN batches_storyresult" not in plan.replace("SCAN batches_storyresult USING", ""), plan


# Its readers


def test_it_needs_no_account_and_its_address_stays_secret(feed, profiles):
    find(profiles[0])
    for kind, content_type in {
        "atom": "application/atom+xml; charset=utf-8",
        "json": "application/feed+json; charset=utf-8",
    }.items():
        answer = get(feed[f"{kind}_url"], accept="image/png")
        assert (answer.status_code, answer["Content-Type"]) == (200, content_type)
        assert "private" in answer["Cache-Control"]
        assert answer["X-Robots-Tag"] == "noindex, nofollow"
        assert answer["Referrer-Policy"] == "no-referrer"
        assert key_of(feed) not in answer.content.decode()
        assert not answer.cookies
        head = APIClient().head(feed[f"{kind}_url"])
        assert (head.status_code, head.content, head["ETag"]) == (200, b"", answer["ETag"])


def test_a_reader_that_has_it_already_gets_304(feed, profiles):
    empty = get(feed["atom_url"])
    assert get(feed["atom_url"])["ETag"] == empty["ETag"]
    story = find(profiles[0])
    answer = get(feed["atom_url"])
    assert answer["ETag"] != empty["ETag"]
    again = get(feed["atom_url"], **{"if-none-match": answer["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", answer["ETag"])
    assert (again["Referrer-Policy"], "private" in again["Cache-Control"]) == ("no-referrer", True)
    assert get(feed["atom_url"], **{"if-none-match": empty["ETag"]}).status_code == 200
    StoryResult.objects.filter(pk=story.pk).update(title="Corrected")
    assert get(feed["atom_url"], **{"if-none-match": answer["ETag"]}).status_code == 200


@pytest.mark.parametrize("key", ["", "x", "feed_x", "feed_\0", "\ud800", "é" * 5000, "{begins}"], ids=range(7))
def test_a_wrong_key_finds_nothing(feed, people, key):
    key = key.format(begins=feed["feed"]["begins_with"])
    with nothing_changes():
        for kind in ("atom", "json"):
            answer = APIClient().get(f"/api/v1/lists/{people.pk}/feed.{kind}", {"token": key.encode(errors="replace")})
            assert refusal_of(answer) == (404, "not_found")
            assert (answer["Referrer-Policy"], answer["Cache-Control"]) == ("no-referrer", "private, no-cache")


def test_a_key_belongs_to_its_list_until_it_is_revoked(client, feed, people):
    assert ListFeed.objects.get().last_used_at is None
    assert get(feed["atom_url"]).status_code == 200
    assert ListFeed.objects.get().last_used_at
    other = make_list("another", 1)
    wrong = get(feed["atom_url"].replace(str(people.pk), str(other.pk)))
    assert refusal_of(wrong) == (404, "not_found")
    assert refusal_of(get(feed["atom_url"].replace(str(people.pk), "x"))) == (404, "not_found")
    second = client.post("/api/v1/feeds/", {"list": str(people.pk), "name": "another"}).json()
    listed = client.get(f"/api/v1/feeds/?list={people.pk}").json()["results"]
    assert [found["id"] for found in listed] == [second["feed"]["id"], feed["feed"]["id"]]
    assert client.get(f"/api/v1/feeds/?list={other.pk}").json()["results"] == []
    assert client.delete(f"/api/v1/feeds/{feed['feed']['id']}/").status_code == 204
    for kind in ("atom", "json"):
        answer = get(feed[f"{kind}_url"])
        assert (answer.status_code, answer.content) == (404, wrong.content)
        assert get(second[f"{kind}_url"]).status_code == 200
    lines = BatchLog.objects.filter(list=people).order_by("-pk").values_list("action", "message")
    assert list(lines[:2]) == [("revoke_feed", "“The newsroom”"), ("create_feed", "“another”")]
    assert BatchManager().delete_list(people.pk)
    assert refusal_of(get(second["atom_url"])) == (404, "not_found")


def test_no_log_and_no_table_has_the_key(feed, people, monkeypatch, settings, caplog):
    caplog.set_level(logging.DEBUG)
    key = key_of(feed)
    assert get(feed["atom_url"]).status_code == 200
    ListFeed.objects.update(last_used_at=None)
    with monkeypatch.context() as patch:
        patch.setattr("batches.api.feeds.fetch_new_stories", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            get(feed["atom_url"])
    with monkeypatch.context() as patch:
        patch.setattr("batches.api.feeds.fetch_new_stories", lambda _: (_ for _ in ()).throw(OperationalError()))
        assert get(feed["atom_url"]).status_code == 503
    settings.BATCHES = {"API_ANONYMOUS_RATE": "1/minute"}
    cache.clear()
    assert [get(feed["atom_url"]).status_code for _ in range(2)] == [200, 429]
    assert "429" in caplog.text or "Too Many" in caplog.text
    assert key not in caplog.text
    assert not [name for name, rows in every_table().items() if key in "".join(rows)]


# The calls


def test_a_repeated_request_makes_no_second_feed_and_does_not_show_the_addresses_again(client, people):
    body = {"list": str(people.pk), "name": "once"}
    first, second = (client.post("/api/v1/feeds/", body, headers={"Idempotency-Key": "once"}) for _ in range(2))
    assert first.json()["atom_url"].startswith(f"http://testserver/api/v1/lists/{people.pk}/feed.atom?token=feed_")
    assert second.json() == first.json() | {"atom_url": None, "json_url": None}
    assert key_of(first.json()) not in StoredResponse.objects.get().body
    assert ListFeed.objects.count() == 1

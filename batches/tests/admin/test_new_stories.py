"""The reading list: what it shows, its filters, the mark of the reader, and its export."""

import csv
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import Profile, ReadMark, StoryResult
from batches.reports import new_stories
from batches.tests.support.factories import make_list, ok, remembered, run_list, story_of, with_stories

from .conftest import document, send, text_of, words

pytestmark = pytest.mark.django_db

READING = reverse("admin:batches_storyresult_reading")
EXPORT = reverse("admin:batches_storyresult_export", args=["csv"])


def titles(response):
    return [words(title) for title in document(response).find_class("reading-title")]


def sections(response):
    """The headings with the numbers of their stories."""
    groups = document(response).find_class("reading-group")
    return [(words(group.find("h2")), len(group.findall(".//li"))) for group in groups]


@pytest.fixture
@remembered
def news():
    """Stories 1 and 2 of the first profile of a list, 3 of the second one, in this order; 4 is of another list."""
    found = make_list("the list", 2)
    run_list(found, with_stories(story_of(1), story_of(2)))
    run_list(found, ok(), with_stories(story_of(3)))
    other = BatchManager().create_list("other", ["https://other.example/"], count_first=True)
    run_list(other, with_stories(story_of(4)))
    return found


def test_stories_are_read_by_day_or_by_profile(client, news):
    StoryResult.objects.filter(story_id="1").update(found_at=timezone.now() - timedelta(days=2))
    page = client.get(READING)
    assert titles(page) == ["Unread Story 4", "Unread Story 3", "Unread Story 2", "Unread Story 1"]
    today, earlier = timezone.localdate(), timezone.localdate() - timedelta(days=2)
    assert sections(page) == [(f"{today:%A, %Y-%m-%d}", 3), (f"{earlier:%A, %Y-%m-%d}", 1)]
    assert sections(client.get(READING, {"by": "profile"})) == [
        ("https://other.example/", 1),
        ("https://example.org/1", 1),
        ("https://example.org/0", 2),
    ]


def test_todays_new_stories_of_one_list_are_one_click_from_the_page(client, news):
    page = document(client.get(READING, {"day": "today"}))
    links = page.xpath("//details[@class='reading-lists']//a")
    assert [words(link) for link in links] == ["the list", "other"]
    of_list = client.get(READING + links[0].get("href"))
    assert titles(of_list) == ["Unread Story 3", "Unread Story 2", "Unread Story 1"]
    assert "Feeds of this list" in text_of(of_list)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"host": "example.org"}, [3, 2, 1]),
        ({"host": "other.example", "day": "today"}, [4]),
        ({"host": f"other.example:{443:0300}"}, [4]),
        ({"day": "1999-12-31"}, []),
        ({"before": "0"}, []),
        ({"before": "x"}, [4, 3, 2, 1]),
        ({"before": "9" * 30}, [4, 3, 2, 1]),
    ],
)
def test_the_filters_select_what_is_shown_and_what_is_exported(client, news, query, expected):
    assert titles(client.get(READING, query)) == [f"Unread Story {number}" for number in expected]
    if "before" not in query:
        rows = csv.DictReader(client.get(EXPORT, query).getvalue().decode().splitlines())
        assert [row["title"] for row in rows] == [f"Story {number}" for number in reversed(expected)]


def test_the_stories_of_a_batch(client, news):
    batch = news.runs.order_by("created_at")[0]
    page = client.get(READING, {"batch": str(batch.pk)})
    assert titles(page) == ["Unread Story 2", "Unread Story 1"]
    assert not document(page).xpath("//*[@id='reading-mark']")


def test_a_filter_that_is_not_valid_shows_nothing_and_says_why(client, news):
    for query, problem in {
        "day=2026-06-31": "This is not a valid date.",
        "day=0001-01-01": "This is not a valid date.",
        "day=nonsense": "This is not a valid date.",
        "list=nonsense": "nonsense",
        "batch=00000000-0000-0000-0000-000000000000": "00000000",
        "host=a b": "Give only a host",
    }.items():
        page = client.get(f"{READING}?{query}")
        [note] = document(page).find_class("errornote")
        assert problem in words(note), query
        assert titles(page) == [], query
        assert client.get(f"{EXPORT}?{query}").status_code == 302, query
        assert client.post(f"{READING}?{query}", {"up_to": "1"}).status_code == 302, query
        assert not ReadMark.objects.exists(), query


def test_a_mark_counts_for_its_user_and_its_list(client, client_of, news):
    send(client, client.get(READING))
    run_list(news, with_stories(story_of(5)))
    assert titles(client.get(READING))[:2] == ["Unread Story 5", "Story 4"]
    assert titles(client.get(READING, {"unread": "1"})) == ["Unread Story 5"]
    of_list = f"{READING}?list={news.pk}"
    assert titles(client.get(of_list))[0] == "Unread Story 5"
    send(client, client.get(of_list))
    assert titles(client.get(of_list))[0] == "Story 5"
    assert titles(client.get(READING))[0] == "Unread Story 5"
    assert "You have read everything." in text_of(client.get(of_list, {"list": news.pk, "unread": "1"}))
    assert titles(client_of("viewer").get(READING))[0] == "Unread Story 5"


def test_a_forged_mark_is_harmless(client, news):
    for up_to in ("", "x", "-1", "9" * 400):
        assert client.post(READING, {"up_to": up_to}).status_code == 302, up_to
        assert client.get(READING).status_code == 200, up_to


def test_older_stories_follow(client, news, monkeypatch):
    monkeypatch.setattr(new_stories, "PAGE", 3)
    page = client.get(READING, {"by": "profile"})
    older = client.get(READING + document(page).get_element_by_id("older").get("href"))
    assert titles(older) == ["Unread Story 1"]
    assert older.context["by_profile"]
    assert not document(older).xpath("//*[@id='older']")


def test_links_need_the_permission_to_view_their_pages(client_of, news):
    html = text_of(client_of("viewer").get(READING, {"list": str(news.pk)})).split('id="content-main"')[1]
    assert reverse("admin:batches_profilelist_change", args=[news.pk]) not in html
    assert "feed" not in html.lower().replace("feed.xml", "")


def test_an_empty_page_explains_itself(client):
    assert "No new stories." in text_of(client.get(READING))
    assert Profile.objects.count() == 0

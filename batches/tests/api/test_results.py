"""Results: the rows, stories, log and comparison of a batch, all profiles and stories, and exports."""

import csv
import io
import json
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchProfile, Profile, StoryResult
from batches.models.public_fields import LOG
from batches.reports import streams
from batches.tests.api.test_lists import read_pages
from batches.tests.support.factories import failed, half_known, make_list, ok, record, start_run

from .conftest import errors_of, refusal_of

pytestmark = pytest.mark.django_db

ADDRESSES = [
    "http://a.example/",
    "https://a.example/x",
    "https://a.example:8443/y",
    "http://ab.example/",
    "http://b.a.example/",
    "http://x.example/http://a.example/",
    "http://a-b.example/",
    "http://[2001:db8::1]/",
]


@pytest.fixture
def batch():
    """Of eight profiles: two ok (one of them with two new stories), three failed, three pending. Paused."""
    made = BatchManager().create_batch("Näws = 1", ADDRESSES, count_first=True)
    assert made
    run = start_run(made)
    rows = list(made.profiles.order_by("pk"))
    results = [ok("s1", "s2"), ok(), failed("HTTP status 500"), failed("HTTP status 500"), failed("=It's 100% broken_")]
    record(run, [(row.profile_id, result) for row, result in zip(rows, results, strict=False)])
    assert BatchManager().pause_batch(made.pk)
    made.refresh_from_db()
    return made


def results(client, path):
    answer = client.get(path)
    assert answer.status_code == 200, answer.content
    return answer.json()["results"]


def test_a_row_has_its_profile_and_its_result(client, batch):
    rows = results(client, f"/api/batches/{batch.pk}/profiles/")
    row = batch.profiles.order_by("pk")[0]
    assert rows[0] == {
        "id": row.pk,
        "profile": row.profile_id,
        "url": "http://a.example/",
        "name": "",
        "feed_url": "",
        "status": "ok",
        "error": "",
        "http_status": 200,
        "duration": 0.0,
        "has_story": True,
        "checked_at": row.checked_at.isoformat().replace("+00:00", "Z"),
    }
    assert [row["url"] for row in rows] == ADDRESSES


def test_a_profile_has_its_checks_in_all_batches_as_the_command_prints_them(client, batch, manage):
    other = BatchManager().create_batch("other", ADDRESSES[:1])
    run = start_run(other)
    profile = Profile.objects.get(url=ADDRESSES[0])
    record(run, [(profile.pk, failed("It is gone."))])
    address = f"/api/profiles/{profile.pk}/history/?page_size=1"
    found = read_pages(client, address)
    assert [(it["batch_name"], it["status"]) for it in found] == [("other", "failed"), (batch.name, "ok")]
    assert found == json.loads(manage("profile", "history", "--json", profile.pk).out)
    another = f"/api/profiles/{Profile.objects.get(url=ADDRESSES[1]).pk}/"
    following = client.get(address).json()["next"].replace(f"/api/profiles/{profile.pk}/", another)
    assert errors_of(client.get(following)) == {"cursor"}


FILTERED = {
    "status=ok": [0, 1],
    "status=failed&status=pending": [2, 3, 4, 5, 6, 7],
    "error=HTTP status 500": [2, 3],
    "error=http status": [],
    "error_contains=STATUS": [2, 3],
    "error_contains=100%25": [4],
    "error_contains=_": [4],
    "has_story=true": [0],
    "has_story=false&status=ok": [1],
    "http_status=200": [0, 1],
    "http_status=404": [],
    "host=a.example": [0, 1, 2],
    "host=A.Example.": [0, 1, 2],
    "host=a.example:8443": [2],
    "host=a.example:80": [0],
    "host=a.example:443": [1],
    "host=a": [],
    "host=example": [],
    "host=_.example": [],
    "host=[2001:DB8:0::1]": [7],
    "host=a.example&status=ok&has_story=false": [1],
    "change=newly_failing": [],
}


def test_the_rows_of_a_batch_are_filtered(client, batch):
    path = f"/api/batches/{batch.pk}/profiles/"
    filtered = {query: results(client, f"{path}?{query}") for query in FILTERED}
    assert {query: [ADDRESSES.index(row["url"]) for row in rows] for query, rows in filtered.items()} == FILTERED


LISTS = ["profiles/", "stories/", "lists/", "lists/{list}/profiles/"]
LISTS += ["batches/{pk}/profiles/", "batches/{pk}/stories/", "batches/{pk}/logs/"]


@pytest.mark.parametrize("path", LISTS)
def test_each_list_is_read_page_by_page(client, batch, a_list, path):
    make_list("another")
    path = f"/api/{path.format(pk=batch.pk, list=a_list.pk)}"
    whole = results(client, path)
    assert len(whole) >= 2
    assert read_pages(client, f"{path}?page_size=1") == whole
    cursor = client.get(f"{path}?page_size=1").json()["next"].partition("cursor=")[2].split("&")[0]
    elsewhere = "/api/stories/" if "logs" in path else f"/api/batches/{batch.pk}/logs/"
    assert errors_of(client.get(f"{elsewhere}?cursor={cursor}")) == {"cursor"}


# Repeats


@pytest.fixture
def repeat(batch):
    """Of the batch: the first is failing now, the third has recovered, the second is as it was."""
    again = BatchManager().repeat_batch(batch.pk)
    assert again
    run = start_run(again)
    ids = dict(again.profiles.values_list("profile__url", "profile_id"))
    outcomes = [failed(), ok(), ok("s3"), failed()]
    record(run, [(ids[url], outcome) for url, outcome in zip(ADDRESSES, outcomes, strict=False)])
    return again


def test_a_repeat_is_compared_with_the_previous_batch(client, batch, repeat):
    answer = client.get(f"/api/batches/{repeat.pk}/comparison/").json()
    assert answer.pop("previous") == client.get(f"/api/batches/{batch.pk}/").json()
    assert answer == {"stories": 1, "newly_failing": 1, "recovered": 1, "unchanged": 2, "not_compared": 4}
    path = f"/api/batches/{repeat.pk}"
    changed = results(client, f"{path}/profiles/?change=recovered&has_story=true")
    assert [row["url"] for row in changed] == ADDRESSES[2:3]
    assert len(read_pages(client, f"{path}/profiles/?change=not_compared&page_size=1")) == 4
    [line] = read_export(client, f"{path}/export/jsonl/?change=newly_failing").splitlines()
    assert json.loads(line)["url"] == ADDRESSES[0]


# Stories, logs, profiles


@pytest.mark.parametrize("path", ["stories/", "batches/{batch}/stories/"])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"c": False, "b": False}),
        ("?baseline=include", {"c": False, "b": False, "a": True}),
        ("?baseline=only", {"a": True}),
    ],
)
def test_the_baseline_is_listed_on_request(client, path, query, expected):
    found = results(client, "/api/v1/" + path.format(batch=half_known().pk) + query)
    assert [(story["story_id"], story["is_baseline"]) for story in found] == list(expected.items())


def test_the_stories_of_a_batch_that_is_checked_again_are_those_that_it_counts(client, batch):
    path = f"/api/batches/{batch.pk}/stories/"
    assert BatchManager().complete_batch(batch.pk)
    assert BatchManager().queue_batch(batch.pk)
    assert results(client, path) == []
    record(start_run(batch), [(batch.profiles.latest("pk").profile_id, ok("s3"))])
    assert [story["story_id"] for story in results(client, path)] == ["s3"]
    assert [story["story_id"] for story in results(client, f"/api/stories/?batch={batch.pk}")] == ["s3", "s2", "s1"]
    # A count that is too high, as when a profile was deleted with its stories.
    StoryResult.objects.filter(story_id__in=["s1", "s2"]).delete()
    Batch.objects.filter(pk=batch.pk).update(stories_found=2)
    assert [story["story_id"] for story in results(client, path)] == ["s3"]


def test_stories_are_filtered(client, batch):
    day = datetime(2026, 1, 1, tzinfo=UTC)
    StoryResult.objects.filter(story_id="s1").update(title="The 1st word", published_at=day, found_at=day)
    StoryResult.objects.filter(story_id="s2").update(url="https://a.example/second")
    expected = {
        "search=word the": ["s1"],
        "search=second": ["s2"],
        "published_before=2026-01-01T00:00:00Z": ["s1"],
        "published_after=2026-01-02": [],
        "found_after=2026-01-02": ["s2"],
        f"profile={batch.profiles.order_by('pk')[1].profile_id}": [],
    }
    found = {query: [story["story_id"] for story in results(client, f"/api/stories/?{query}")] for query in expected}
    assert found == expected


def test_the_log_of_a_batch_is_listed_newest_first_and_filtered(client, batch):
    path = f"/api/batches/{batch.pk}/logs/"
    rows = results(client, path)
    assert (rows[0]["action"], rows[-1]["action"]) == ("pause_batch", "create_batch")
    assert rows[0].keys() == set(LOG)
    client.post(f"/api/batches/{batch.pk}/queue/")
    assert [line["action"] for line in results(client, f"{path}?channel=api&actor=root")] == ["queue_batch"]
    assert len(results(client, f"{path}?action=pause_batch")) == 1
    assert results(client, f"{path}?created_before=2020-01-01") == []


def test_all_profiles_are_listed_and_filtered(client, batch):
    Profile.objects.create(url="http://new.example/", name="Never checked")
    Profile.objects.filter(url=ADDRESSES[0]).update(last_checked_at=datetime(2026, 1, 1, tzinfo=UTC))
    expected = {
        "failing=true": set(ADDRESSES[2:5]),
        "failing=false&checked=true": set(ADDRESSES[:2]),
        "checked=false&search=never": {"http://new.example/"},
        "checked_before=2026-01-02&checked_after=2025-12-31": {ADDRESSES[0]},
        "host=new.example": {"http://new.example/"},
        "search=8443": {ADDRESSES[2]},
    }
    found = {query: {profile["url"] for profile in results(client, f"/api/profiles/?{query}")} for query in expected}
    assert found == expected


# Exports


def read_export(client, path, **options):
    answer = client.get(path, **options)
    assert answer.status_code == 200, answer.content
    return b"".join(answer.streaming_content).decode()


def test_a_batch_and_its_stories_are_exported_as_files_of_each_type(client, batch):
    path = f"/api/batches/{batch.pk}"
    answer = client.get(f"{path}/export/csv/", headers={"Accept": "text/csv"})
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    name = f"ws-1-{str(batch.pk)[:8]}.csv"
    assert answer["Content-Disposition"] == f"attachment; filename=\"na{name}\"; filename*=utf-8''n%C3%A4{name}"
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert [row["url"] for row in rows] == ADDRESSES
    lines = read_export(client, f"{path}/export/jsonl/?status=failed").splitlines()
    assert [json.loads(line)["url"] for line in lines] == ADDRESSES[2:5]
    assert read_export(client, f"{path}/export/opml/").count("<outline ") == len(ADDRESSES)
    answer = client.get(f"{path}/stories/export/csv/")
    assert answer["Content-Disposition"].startswith(f'attachment; filename="naws-1-stories-{str(batch.pk)[:8]}.csv"; ')
    StoryResult.objects.filter(story_id="s2").update(title="The bridge")
    assert json.loads(read_export(client, f"{path}/stories/export/jsonl/?search=bridge"))["title"] == "The bridge"


def test_an_unknown_type_of_export_is_not_found(client, batch):
    for path in ("export/xml", "stories/export/opml", "export/CSV"):
        answer = client.get(f"/api/batches/{batch.pk}/{path}/")
        assert refusal_of(answer) == (404, "not_found")
        assert "csv" in answer.json()["detail"]


def test_a_head_of_an_export_reads_no_rows(client, batch, monkeypatch):
    monkeypatch.setattr(streams, "stream_rows", None)
    answer = client.head(f"/api/batches/{batch.pk}/export/csv/")
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/csv; charset=utf-8")


def test_an_export_ends_cleanly_if_its_batch_is_deleted_while_it_is_sent(client, batch, monkeypatch):
    monkeypatch.setattr(streams, "STREAM_CHUNK", 2)
    monkeypatch.setattr("batches.web.downloads.CHUNK_LINES", 1)
    chunks = iter(client.get(f"/api/batches/{batch.pk}/export/opml/").streaming_content)
    start = [next(chunks), next(chunks)]
    assert BatchManager().delete_batch(batch.pk)
    Batch.everything.filter(pk=batch.pk).delete()
    text = b"".join([*start, *chunks]).decode()
    assert text.count("<outline ") == 2
    assert text.endswith("</opml>\n")


# Queries


BUDGETS = {
    # Those with a position, then those without.
    "/api/batches/": 3,
    "/api/batches/?ordering=position&status=queued": 3,
    "/api/batches/{pk}/": 2,
    "/api/queue/": 11,
    "/api/batches/{pk}/profiles/": 3,
    "/api/batches/{pk}/profiles/?change=recovered&host=a.example": 4,
    "/api/batches/{pk}/stories/": 3,
    "/api/batches/{pk}/logs/": 3,
    "/api/batches/{pk}/comparison/": 4,
    "/api/batches/{pk}/export/csv/": 4,
    "/api/batches/{pk}/stories/export/csv/": 4,
    "/api/lists/": 2,
    "/api/profiles/": 2,
    "/api/stories/": 2,
}


def test_the_number_of_queries_does_not_grow_with_the_rows(client, batch, repeat):
    paths = {path.format(pk=repeat.pk): budget for path, budget in BUDGETS.items()}
    few = {path: queries_of(client, path) for path in paths}
    many = [f"http://a.example/{number}" for number in range(60)]
    Profile.objects.bulk_create(Profile(url=url) for url in many)
    for made in (batch, repeat):
        rows = [BatchProfile(batch=made, profile=profile) for profile in Profile.objects.filter(url__in=many)]
        BatchProfile.objects.bulk_create(rows)
    StoryResult.objects.bulk_create(
        StoryResult(batch=repeat, profile=profile, story_id=profile.url) for profile in Profile.objects.all()
    )
    for number in range(10):
        assert BatchManager().create_batch(f"more {number}")
        make_list(f"more {number}", 3)
        assert BatchManager().rename_batch(repeat.pk, f"renamed {number}")
    for path, budget in paths.items():
        assert queries_of(client, path) == few[path] <= budget, path


def queries_of(client, path):
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(path)
        assert answer.status_code == 200
        if answer.streaming:
            b"".join(answer.streaming_content)
    assert all(query["sql"].startswith("SELECT") for query in captured)
    return len(captured)

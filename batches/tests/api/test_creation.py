"""New batches: profiles in JSON or in a file, rejected entries, and refused lists."""

import json

import pytest

from batches.models import Batch

from .calls import ADDRESS, upload
from .conftest import errors_of, nothing_changes

pytestmark = pytest.mark.django_db

NO_SCHEME = "It has no scheme; start it with https://."


def create(client, **fields):
    return client.post("/api/batches/", {"name": "news", "profiles": [ADDRESS]} | fields)


def test_a_batch_is_created_with_addresses_and_names(client):
    profiles = [
        "https://example.org/a",
        {"url": "HTTPS://Example.org:443/b#top", "name": "The B"},
        "https://EXAMPLE.org/a#x",
    ]
    answer = create(client, priority=3, checker="http", profiles=profiles)
    made = answer.json()
    assert answer.status_code == 201
    assert (made["accepted"], made["duplicates"], made["rejected"]) == (2, 1, [])
    batch = made["batch"]
    assert answer["Location"] == batch["url"]
    assert batch == client.get(batch["url"]).json()
    assert (batch["name"], batch["priority"], batch["checker"]) == ("news", 3, "http")
    assert (batch["status"], batch["position"], batch["total_profiles"]) == ("queued", 1, 2)
    rows = Batch.objects.get(pk=batch["id"]).profiles.order_by("pk").values_list("profile__url", "profile__name")
    assert list(rows) == [("https://example.org/a", ""), ("https://example.org/b", "The B")]


@pytest.mark.parametrize("make", [create, lambda client, **fields: upload(client, ADDRESS.encode(), **fields)])
def test_fields_have_defaults_and_a_batch_that_is_not_queued_is_paused(client, make):
    batch = make(client).json()["batch"]
    assert (batch["priority"], batch["checker"], batch["status"]) == (0, "feed", "queued")
    changed = make(client, priority=-3, checker="http", queue=False, strict=True).json()["batch"]
    assert (changed["priority"], changed["checker"], changed["status"]) == (-3, "http", "paused")


BAD_ENTRIES = [
    "ftp://example.org/",
    "",
    "https://a:b@example.org/",
    "https://example.org/\0",
    "https://example.org/\ud800",
    "x" * 3000,
    None,
    5,
    True,
    [],
    [[ADDRESS]],
    {},
    {"url": None},
    {"url": [ADDRESS]},
    {"name": "nameless"},
    {"url": ADDRESS, "name": 5},
    {"url": ADDRESS, "Name": "x"},
    {"url": ADDRESS, "\ud800\0": "x"},
]


def test_invalid_entries_are_rejected_and_the_others_imported(client):
    made = post(client, {"name": "news", "profiles": ["https://example.org/good", *BAD_ENTRIES]}).json()
    assert made["accepted"] == 1
    assert [reject["index"] for reject in made["rejected"]] == list(range(1, len(BAD_ENTRIES) + 1))
    for reject in made["rejected"]:
        assert reject.keys() == {"index", "text", "reason"}
        assert reject["reason"].endswith(".")
        assert len(reject["text"]) <= 200
    assert made["rejected"][0]["text"] == "ftp://example.org/"


@pytest.mark.parametrize(
    ("entries", "strict", "detail"),
    [
        ([ADDRESS, "nonsense"], True, "1 of 2 entries is not valid."),
        (["nonsense"], False, "1 of 1 entry is not valid."),
        (["nonsense", "nonsense"], False, "2 of 2 entries are not valid."),
    ],
)
def test_a_refused_list_creates_nothing(client, entries, strict, detail):
    with nothing_changes():
        answer = create(client, profiles=entries, strict=strict)
    assert errors_of(answer) == {"profiles"}
    assert detail in answer.json()["detail"]
    assert answer.json()["rejected"] == [
        {"index": index, "text": text, "reason": NO_SCHEME} for index, text in enumerate(entries) if text == "nonsense"
    ]


def test_a_format_can_be_chosen_and_rejected_lines_have_numbers(client):
    content = b"url\nhttps://example.org/a\nhttps://example.org/a\n"
    made = upload(client, content, "list.bin", format="csv").json()
    assert (made["accepted"], made["duplicates"], made["rejected"]) == (1, 1, [])
    made = upload(client, content, "list.bin", format="text").json()
    assert made["rejected"] == [{"line": 1, "text": "url", "reason": NO_SCHEME}]


@pytest.mark.parametrize(
    ("content", "fields", "lines"),
    [
        (b"", {}, []),
        (b"https://example.org/\nnonsense\n", {"strict": "true"}, [2]),
        (b"<opml><body>", {"format": "opml"}, []),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(client, content, fields, lines):
    with nothing_changes():
        answer = upload(client, content, **fields)
    assert errors_of(answer) == {"file"}
    assert [reject["line"] for reject in answer.json().get("rejected", [])] == lines


def post(client, body):
    """As JSON that may have lone surrogates, escaped."""
    return client.post("/api/batches/", json.dumps(body), content_type="application/json")

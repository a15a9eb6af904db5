"""New batches: profiles in JSON or in a file, rejected entries, and refused lists."""

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from batches.models import Batch

from .conftest import errors_of, nothing_changes, refusal_of

pytestmark = pytest.mark.django_db

ADDRESS = "https://example.org/"
NO_SCHEME = "It has no scheme; start it with https://."


def create(client, **fields):
    return client.post("/api/batches/", {"name": "news", "profiles": [ADDRESS]} | fields)


def upload(client, content, filename="list.txt", **fields):
    file = SimpleUploadedFile(filename, content)
    return client.post("/api/batches/", {"name": "news", "file": file} | fields, format="multipart")


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
    assert make(client, queue=False).json()["batch"]["status"] == "paused"


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


@pytest.mark.parametrize("fields", [{"strict": True, "profiles": [ADDRESS, "nonsense"]}, {"profiles": ["nonsense"]}])
def test_a_refused_list_creates_nothing(client, fields):
    entries = fields["profiles"]
    with nothing_changes():
        answer = create(client, **fields)
    assert errors_of(answer) == {"profiles"}
    assert f"1 of {len(entries)} entries" in answer.json()["detail"]
    assert answer.json()["rejected"] == [{"index": len(entries) - 1, "text": "nonsense", "reason": NO_SCHEME}]


def test_too_many_invalid_entries_are_refused(client, monkeypatch):
    monkeypatch.setattr("batches.lists.imports.MAX_REJECTS", 3)
    assert errors_of(create(client, profiles=[ADDRESS, *[5] * 10])) == {"profiles"}


def test_a_form_takes_the_same_fields_as_text(client):
    answer = upload(client, ADDRESS.encode(), priority="-3", checker="http", queue="false", strict="true")
    batch = answer.json()["batch"]
    assert (batch["priority"], batch["checker"], batch["status"]) == (-3, "http", "paused")


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
        (b"\x00\x01\x02\x03", {}, []),
        (b"nonsense", {}, [1]),
        (b"https://example.org/\nnonsense\n", {"strict": "true"}, [2]),
        (b"<opml><body>", {"format": "opml"}, []),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(client, content, fields, lines):
    with nothing_changes():
        answer = upload(client, content, **fields)
    assert errors_of(answer) == {"file"}
    assert [reject["line"] for reject in answer.json().get("rejected", [])] == lines


WRONG_IN_A_FORM = {
    "format": ["pdf"],
    "priority": ["high", "40000"],
    "checker": ["nonsense"],
    "queue": ["perhaps"],
    "strict": ["perhaps"],
    "name": ["a\0b", ""],
    "profiles": [ADDRESS],
    "file": [ADDRESS],
    "status": ["done"],
}


@pytest.mark.parametrize("field", WRONG_IN_A_FORM)
def test_an_invalid_field_of_a_form_is_refused_by_name(client, field):
    with nothing_changes():
        for value in WRONG_IN_A_FORM[field]:
            assert errors_of(upload(client, ADDRESS.encode(), **{field: value})) == {field}, value


WRONG_IN_JSON = {
    "name": [None, "", "  \t\n ", 5, True, ["news"], {"a": 1}, "x" * 201, " " * 200 + "x", "a\0b", "a\ud800b"],
    "priority": [None, "5", True, 1.5, 1.0, [1], 40_000, -40_000, 10**30, 10**4000],
    "checker": ["nonsense", "", None, 5, ["feed"], "\0", "\ud800", "x" * 100_000],
    "queue": ["true", 1, None, []],
    "strict": ["false", 0],
    "profiles": [None, [], ADDRESS, {"url": ADDRESS}, 5],
    "file": [ADDRESS],
    "status": ["done"],
    "\0": [1],
    "\ud800": [1],
    "x" * 100_000: [1],
}


@pytest.mark.parametrize("field", WRONG_IN_JSON, ids=range(len(WRONG_IN_JSON)))
def test_an_invalid_field_is_refused_by_name(client, field):
    with nothing_changes():
        for value in WRONG_IN_JSON[field]:
            answer = post(client, {"name": "news", "profiles": [ADDRESS], field: value})
            assert errors_of(answer) == {field.replace("\0", "").replace("\ud800", "")[:500]}, value


def test_a_missing_field_is_refused_by_name(client):
    assert errors_of(client.post("/api/batches/", {})) == {"name", "profiles"}
    assert errors_of(client.post("/api/batches/", {}, format="multipart")) == {"name", "file"}


def test_an_error_names_at_most_ten_unknown_fields_or_parameters(client):
    unknown = {f"field{number}": "1" for number in range(500)}
    assert len(client.post("/api/batches/", unknown).json()["errors"]) == 10
    assert len(client.get("/api/batches/", unknown).json()["errors"]) == 10


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"true",
        b'{"name": "news", "priority": Infinity, "profiles": ["https://example.org/"]}',
        b'{"name": "news", "priority": 1e400, "profiles": ["https://example.org/"]}',
        b'{"name": "news", "priority": -1e400, "profiles": ["https://example.org/"]}',
        b'{"name": "news", "priority": ' + b"9" * 5000 + b', "profiles": ["https://example.org/"]}',
        b'{"name": "\xff", "profiles": ["https://example.org/"]}',
        b'{"name": "\xed\xa0\x80", "profiles": ["https://example.org/"]}',
        b'\xef\xbb\xbf{"name": "news", "profiles": ["https://example.org/"]}',
        '{"name": "news", "profiles": ["https://example.org/"]}'.encode("utf-16"),
        '{"a":' * 10_000 + "1" + "}" * 10_000,
    ],
    ids=range(12),
)
def test_a_body_that_is_not_valid_json_for_a_batch_is_refused(client, body):
    with nothing_changes():
        assert refusal_of(client.post("/api/batches/", body, content_type="application/json"))[0] == 400


def test_a_form_with_a_field_that_is_too_large_or_too_many_fields_is_refused(client, settings):
    large = upload(client, ADDRESS.encode(), name="x" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1))
    assert refusal_of(large) == (413, "too_large")
    many = upload(client, ADDRESS.encode(), **{f"field{number}": "" for number in range(1001)})
    assert refusal_of(many) == (400, "parse_error")


@pytest.mark.parametrize(
    ("content_type", "status", "code"),
    [
        ("application/json; charset=nonsense", 400, "invalid"),
        ("application/json; charset=UTF-8", 400, "invalid"),
        ("multipart/form-data", 400, "parse_error"),
        ("multipart/form-data; boundary=x", 400, "invalid"),
    ],
)
def test_an_empty_body_of_each_type_is_refused(client, content_type, status, code):
    assert refusal_of(client.post("/api/batches/", b"{}", content_type=content_type)) == (status, code)


def post(client, body):
    """As JSON that may have lone surrogates, escaped."""
    return client.post("/api/batches/", json.dumps(body), content_type="application/json")

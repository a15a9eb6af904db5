"""New batches: profiles in JSON or in a file, rejected entries, and refused lists."""

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from batches.models import Batch

from .conftest import refusal_of

pytestmark = pytest.mark.django_db

ADDRESS = "https://example.org/"


def urls_of(batch_id):
    rows = Batch.objects.get(pk=batch_id).profiles.order_by("pk")
    return list(rows.values_list("profile__url", "profile__name"))


def create(client, **fields):
    return client.post("/api/batches/", {"name": "news", "profiles": [ADDRESS]} | fields)


def upload(client, content, filename="list.txt", **fields):
    file = SimpleUploadedFile(filename, content)
    return client.post("/api/batches/", {"name": "news", "file": file} | fields, format="multipart")


def test_a_batch_is_created_with_addresses_and_names(client):
    answer = create(
        client,
        priority=3,
        checker="http",
        profiles=["https://example.org/a", {"url": "HTTPS://Example.org:443/b#top", "name": "The B"}],
    )
    made = answer.json()
    assert answer.status_code == 201
    assert (made["accepted"], made["duplicates"], made["rejected"]) == (2, 0, [])
    batch = made["batch"]
    assert answer["Location"] == batch["url"]
    assert batch == client.get(batch["url"]).json()
    assert (batch["name"], batch["priority"], batch["checker"]) == ("news", 3, "http")
    assert (batch["status"], batch["position"], batch["total_profiles"]) == ("queued", 1, 2)
    assert urls_of(batch["id"]) == [("https://example.org/a", ""), ("https://example.org/b", "The B")]


def test_attributes_have_defaults(client):
    batch = create(client).json()["batch"]
    assert (batch["priority"], batch["checker"], batch["status"]) == (0, "feed", "queued")


@pytest.mark.parametrize("make", [create, lambda client, **fields: upload(client, ADDRESS.encode(), **fields)])
def test_a_batch_that_is_not_queued_is_paused(client, make):
    assert make(client, queue=False).json()["batch"]["status"] == "paused"


def test_a_repeated_address_is_one_profile(client):
    made = create(client, profiles=["https://example.org/a", "https://EXAMPLE.org/a#x", ADDRESS]).json()
    assert (made["accepted"], made["duplicates"]) == (2, 1)


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


def test_a_name_is_cleaned_as_in_a_file(client):
    answer = post(client, {"name": "news", "profiles": [{"url": ADDRESS, "name": " a\0\nb\ud800 "}]})
    assert urls_of(answer.json()["batch"]["id"]) == [(ADDRESS, "a b\ufffd")]


@pytest.mark.parametrize("fields", [{"strict": True, "profiles": [ADDRESS, "nonsense"]}, {"profiles": ["nonsense"]}])
def test_a_refused_list_creates_nothing(client, everything, fields):
    before = everything()
    answer = create(client, **fields)
    assert answer.status_code == 400
    body = answer.json()
    assert body["code"] == "invalid"
    assert body["errors"].keys() == {"profiles"}
    assert f"1 of {len(fields['profiles'])} entries" in body["detail"]
    assert body["rejected"] == [
        {
            "index": len(fields["profiles"]) - 1,
            "text": "nonsense",
            "reason": "It has no scheme; start it with https://.",
        }
    ]
    assert everything() == before


def test_too_many_invalid_entries_are_refused(client, monkeypatch):
    monkeypatch.setattr("batches.lists.imports.MAX_REJECTS", 3)
    answer = create(client, profiles=[ADDRESS, *[5] * 10])
    assert answer.status_code == 400
    assert answer.json()["errors"].keys() == {"profiles"}


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("list.txt", b"\xef\xbb\xbfhttps://example.org/a\r\n# remark\r\nhttps://example.org/b\r\n"),
        ("list.csv", b"name;url\nA;https://example.org/a\nB;https://example.org/b\n"),
        ("list.opml", b'<opml><body><outline xmlUrl="https://example.org/a"/><outline xmlUrl="https://example.org/b"/></body></opml>'),
        ("list.jsonl", b'"https://example.org/a"\n{"url": "https://example.org/b"}\n'),
    ],
)  # fmt: skip
def test_a_file_of_each_format_makes_a_batch(client, filename, content):
    answer = upload(client, content, filename)
    assert answer.status_code == 201, answer.json()
    urls = [url for url, _ in urls_of(answer.json()["batch"]["id"])]
    assert urls == ["https://example.org/a", "https://example.org/b"]


def test_a_form_takes_the_same_fields_as_text(client):
    answer = upload(client, ADDRESS.encode(), priority="-3", checker="http", queue="false", strict="true")
    batch = answer.json()["batch"]
    assert (batch["priority"], batch["checker"], batch["status"]) == (-3, "http", "paused")


def test_a_flag_that_is_left_out_of_a_form_is_not_false(client):
    assert upload(client, ADDRESS.encode()).json()["batch"]["status"] == "queued"


def test_a_format_can_be_chosen(client):
    content = b"url\nhttps://example.org/a\n"
    assert upload(client, content, "list.bin", format="csv").json()["rejected"] == []
    assert upload(client, content, "list.bin", format="text").json()["rejected"] == [
        {"line": 1, "text": "url", "reason": "It has no scheme; start it with https://."}
    ]


def test_rejected_lines_of_a_file_have_line_numbers(client):
    made = upload(client, b"https://example.org/a\nnonsense\nhttps://example.org/a\n").json()
    assert (made["accepted"], made["duplicates"]) == (1, 1)
    assert [(reject["line"], reject["text"]) for reject in made["rejected"]] == [(2, "nonsense")]


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("list.txt", b""),
        ("list.txt", b"\n\n"),
        ("list.txt", b"\x00\x01\x02\x03"),
        ("list.txt", b"nonsense"),
        ("list.txt", "https://example.org/".encode("utf-16")),
        ("list.csv", b"name\nA\n"),
        ("list.csv", b'url\n"https://example.org/\n'),
        ("list.opml", b"<opml><body>"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(client, everything, filename, content):
    before = everything()
    answer = upload(client, content, filename)
    assert answer.status_code == 400
    assert answer.json()["errors"].keys() == {"file"}
    assert everything() == before


def test_a_file_with_a_rejected_line_is_refused_if_strict(client, everything):
    before = everything()
    answer = upload(client, b"https://example.org/\nnonsense\n", strict="true")
    assert answer.status_code == 400
    assert answer.json()["errors"].keys() == {"file"}
    assert [(reject["line"], reject["text"]) for reject in answer.json()["rejected"]] == [(2, "nonsense")]
    assert everything() == before


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
def test_an_invalid_field_of_a_form_is_refused_by_name(client, everything, field):
    before = everything()
    for value in WRONG_IN_A_FORM[field]:
        answer = upload(client, ADDRESS.encode(), **{field: value})
        assert (refusal_of(answer), answer.json()["errors"].keys()) == ((400, "invalid"), {field}), value
    assert everything() == before


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
def test_an_invalid_field_is_refused_by_name(client, everything, field):
    before = everything()
    for value in WRONG_IN_JSON[field]:
        answer = post(client, {"name": "news", "profiles": [ADDRESS], field: value})
        assert refusal_of(answer) == (400, "invalid"), value
        assert [*answer.json()["errors"]] == [field.replace("\0", "").replace("\ud800", "")[:500]], value
    assert everything() == before


def test_a_missing_field_is_refused_by_name(client):
    answer = client.post("/api/batches/", {})
    assert answer.json()["errors"].keys() == {"name", "profiles"}
    answer = client.post("/api/batches/", {}, format="multipart")
    assert answer.json()["errors"].keys() == {"name", "file"}


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
def test_a_body_that_is_not_valid_json_for_a_batch_is_refused(client, everything, body):
    before = everything()
    answer = client.post("/api/batches/", body, content_type="application/json")
    assert refusal_of(answer)[0] == 400
    assert everything() == before


def test_a_body_that_is_too_large_is_not_read(client, settings):
    body = b'{"name": "' + b"x" * settings.DATA_UPLOAD_MAX_MEMORY_SIZE + b'"}'
    answer = client.post("/api/batches/", body, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "as a file" in answer.json()["detail"]


def test_a_form_that_is_too_large_is_not_read(client, monkeypatch):
    monkeypatch.setattr("batches.web.uploads.MAX_FORM_BYTES", 1000)
    answer = upload(client, b"x" * 1000)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_form_field_that_is_too_large_is_refused(client, settings):
    answer = upload(client, ADDRESS.encode(), name="x" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_form_with_too_many_fields_is_refused(client):
    answer = upload(client, ADDRESS.encode(), **{f"field{number}": "" for number in range(1001)})
    assert (answer.status_code, answer.json()["code"]) == (400, "parse_error")


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

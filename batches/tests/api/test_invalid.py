"""Refusals: of fields and parameters by their names, of bodies by their kind. Nothing changes."""

import json
import re
import sys

import pytest
from django.core.files.base import ContentFile

from .calls import ADDRESS, FORM, LISTS, MULTIPART, NEW_BATCH, SUBSCRIBE, UNKNOWN_ID, WITH_BODY, fill, upload
from .conftest import errors_of, nothing_changes, refusal_of

pytestmark = pytest.mark.django_db

JSON = "application/json"
NOT_TEXTS = [None, 5, True, ["news"], {"a": 1}, "a\0b", "a\ud800b"]
#: A body, and values of each field that are refused. A field within a field is named `outer.inner`.
#: Each kind of field is here once: the committed description has the bounds of all others.
BODIES = {
    "batches/": (
        NEW_BATCH,
        {
            "name": [*NOT_TEXTS, "", "  \t\n ", "x" * 201, " " * 200 + "x"],
            "priority": [None, "5", True, 1.5, 1.0, [1], 40_000, -40_000, 10**30, 10**4000],
            "checker": [*NOT_TEXTS, "nonsense", "", "x" * 100_000],
            "queue": ["true", 1, None, []],
            "strict": ["false", 0],
            "profiles": [None, [], ADDRESS, {"url": ADDRESS}, 5],
            "file": [ADDRESS],
            "status": ["done"],
            "\0": [1],
            "\ud800": [1],
            "x" * 100_000: [1],
        },
    ),
    "lists/": ({"name": "new"}, {"profiles": [None, ADDRESS, ["nonsense"]], "queue": [True], "version": [1]}),
    "redirects/accept/": (
        {"ids": [1]},
        {
            "ids": [None, [], 1, ["1"], [True], [0], [2**63], [1.5], [[1]], [1] * 1001],
            "all": ["yes", 1, None],
            "dry_run": ["no", 0, None],
            "host": [None, 5, "", "a/b", "x" * 261, "example.org"],
        },
    ),
    "queue/hold/": ({}, {"reason": [*NOT_TEXTS, "x" * 2001], "until": ["tomorrow", 5, True, [], "", "a\0b"]}),
    "batches/bulk/": (
        {"action": "delete"},
        {
            "action": ["explode", "start", ["delete"], None],
            "ids": [[], None, UNKNOWN_ID, {UNKNOWN_ID: 1}, [UNKNOWN_ID, 5], ["\0"], [[UNKNOWN_ID]], ["x"] * 1001],
            "filter": [{}, None, [], "status=done"],
            "filter.nonsense": ["x"],
            "filter.ordering": ["name"],
            "filter.page": [2],
            "filter.status": ["nonsense", [], [""], ["done", "nonsense"], ["done", ["queued"]], True, None],
            "filter.search": ["", "  ", "\0", "\ud800", ["a", "b"], {"a": 1}, "x" * 201],
            "filter.priority": ["high", 1.5, 10**30],
            "filter.created_after": ["yesterday", ""],
        },
    ),
}


@pytest.mark.parametrize("path", BODIES)
def test_an_invalid_field_is_refused_by_name(client, make_batch, path):
    make_batch("done")
    body, fields = BODIES[path]
    with nothing_changes():
        for field, values in fields.items():
            outer, _, inner = field.partition(".")
            known_as = field.replace("\0", "").replace("\ud800", "")[:500]
            for value in values:
                sent = body | {outer: {inner: value} if inner else value}
                answer = client.post(f"/api/{path}", json.dumps(sent), content_type=JSON)
                [name] = errors_of(answer)
                assert re.sub(r"\.\d+$", "", name) == known_as, value


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("batches/", {}, {"name", "profiles"}),
        ("batches/bulk/", {}, {"action"}),
        ("batches/bulk/", {"action": "delete"}, {"ids"}),
        ("batches/bulk/", {"action": "delete", "ids": [UNKNOWN_ID], "filter": {"search": "x"}}, {"ids"}),
    ],
)
def test_missing_fields_and_those_that_exclude_each_other_are_refused_by_name(client, path, body, fields):
    assert errors_of(client.post(f"/api/{path}", body)) == fields


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("batches/", NEW_BATCH | {"profiles": []}, "profiles: The list is empty."),
        ("batches/bulk/", {"action": "start"}, "action: Use one of queue, pause, retry, repeat, delete."),
        ("queue/subscriptions/", SUBSCRIBE, "topics.0: Use one of held, no_worker."),
        (
            "batches/bulk/",
            {"action": "delete", "filter": {"status": "x"}},
            "filter.status: Use one of queued, running, paused, done, error.",
        ),
        (
            "batches/bulk/",
            {"action": "delete", "filter": {"search": " "}},
            "filter.search.0: This field may not be blank.",
        ),
    ],
)
def test_an_error_says_what_to_send(client, path, body, detail):
    assert client.post(f"/api/{path}", body).json()["detail"] == detail


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("format", ["pdf", ""]),
        ("priority", ["high", "40000", ""]),
        ("checker", ["nonsense", ""]),
        ("queue", ["perhaps", ""]),
        ("strict", ["perhaps"]),
        ("name", ["a\0b", "", "x" * 201, ["a", "b"]]),
        ("profiles", [ADDRESS]),
        ("file", [ADDRESS, "", [ContentFile(b"https://a.example/", "a"), ContentFile(b"https://b.example/", "b")]]),
        ("status", ["done"]),
    ],
)
def test_an_invalid_field_of_a_form_is_refused_by_name(client, field, values):
    with nothing_changes():
        for value in values:
            assert errors_of(upload(client, **{field: value})) == {field}, value


def test_a_request_with_a_field_that_is_too_large_or_with_too_many_fields_is_refused(client, settings):
    large = upload(client, name="x" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1))
    assert refusal_of(large) == (413, "too_large")
    many = upload(client, **{f"field{number}": "" for number in range(1001)})
    assert refusal_of(many) == refusal_of(client.get("/api/batches/?" + "name=a&" * 1001)) == (400, "parse_error")


#: Raw values of parameters, besides those that are refused everywhere.
QUERIES = {
    "batches/": {
        "name__contains": ["a"],
        "created": ["2026-01-01"],
        "status": ["nonsense", "queued&status="],
        "ordering": ["nonsense", "name,-nonsense", "run_token", "batch__name"],
        "priority": ["high", "1.5", "1e400", "NaN", "40000", str(10**30)],
        "created_after": ["yesterday", "0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00"],
        "created_before": ["2026-13-01"],
        "page_size": ["0", "1001", "many", "1&page_size=2"],
        "name": ["x" * 201, "%00&search=x", "a&name=b"],
        "search": ["x " * 101],
        "cursor": ["", "%ED%A0%80", "bnVsbA"],
        "%00": ["1"],
    },
    "profiles/": {
        "failing": ["maybe", "1"],
        "checked": ["True"],
        "host": ["a.example/path", "user@a.example", "127.1", "a.example:99999", "%25"],
    },
    "stories/": {"batch": ["nonsense"], "page_size": ["1001"], "profile": [2**63]},
    "lists/": {"ordering": ["nonsense", "checker", "version"]},
    "batches/{pk}/profiles/": {"change": ["nonsense"], "http_status": ["99"], "status": ["done"]},
}
UNKNOWN = ["nonsense", "Status", "profile__url", "batch_id", "run_token", "page", "format"]
HOSTILE = ["", "%20%0A", "%00", "a%00b", "9" * 5000, "x" * 3000]


@pytest.mark.databases("sqlite")  # which it does not reach
@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_an_invalid_query_is_refused_by_name(client, make_batch, a_list, step, path):
    """The filters take turns: each gets every third hostile value."""
    address, of_pages = f"/api/{fill(path, make_batch())}", ["1"] if "export" in path else HOSTILE
    queries = [*QUERIES.get(path, {}).items(), ("cursor", of_pages), ("page_size", of_pages)]
    queries += [(name, ["1"]) for name in UNKNOWN]
    queries += [(name, HOSTILE[number % step :: step]) for number, name in enumerate(LISTS[path])]
    for name, values in queries:
        known_as = name.replace("%00", "")
        for value in values:
            answer = client.get(f"{address}?{name}={value}")
            assert errors_of(answer) == {known_as}, (name, value)
            assert answer.json()["detail"].startswith(f"{known_as}: ")


def test_an_error_names_at_most_ten_unknown_fields_or_parameters(client):
    unknown = {f"field{number}": "1" for number in range(500)}
    assert len(client.post("/api/batches/", unknown).json()["errors"]) == 10
    assert len(client.get("/api/batches/", unknown).json()["errors"]) == 10


# Bodies


#: Python 3.14 reads it all the same.
TOO_DEEP = "parse_error" if sys.version_info < (3, 14) else "invalid"


#: A body, its type, and the status and the code of its refusal.
WRONG_BODIES = [
    ("{", JSON, 400, "parse_error"),
    ("[]", JSON, 400, "invalid"),
    ("null", JSON, 400, "invalid"),
    ('{"x": NaN}', JSON, 400, "parse_error"),
    ('{"queue": true, "x": 1, "queue": false}', JSON, 400, "parse_error"),
    ('{"x": [{"url": 1, "url": 1}]}', JSON, 400, "parse_error"),
    ('{"x": -1e400}', JSON, 400, "invalid"),
    (f'{{"x": {"9" * 5000}}}', JSON, 400, "parse_error"),
    (b'{"x": "\xff"}', JSON, 400, "parse_error"),
    (b'\xef\xbb\xbf{"x": 1}', JSON, 400, "parse_error"),
    ('{"x": 1}'.encode("utf-16"), JSON, 400, "parse_error"),
    ('{"x":' * 10_000 + "1" + "}" * 10_000, JSON, 400, TOO_DEEP),
    ('{"x": 1}', f"{JSON}; charset=nonsense", 400, "invalid"),
    ("name=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    ("{}", "text/plain", 415, "unsupported_media_type"),
    ("{}", f"{JSON}; charset=utf-16", 415, "unsupported_media_type"),
    ("{}", f"{JSON}; charset=zlib", 415, "unsupported_media_type"),
]


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_body_of_the_wrong_kind_is_refused(client, make_batch, step):
    """The calls take turns: each gets every fifth body."""
    batch = make_batch("done", failed=1)
    with nothing_changes():
        for number, (body, content_type, *refusal) in enumerate(WRONG_BODIES):
            for call in WITH_BODY[number % step :: step]:
                answer = call.send(client, batch, body, content_type=content_type)
                assert refusal_of(answer) == tuple(refusal), (call, number)


@pytest.mark.databases("sqlite")
def test_a_form_is_refused_except_for_profiles_with_all_their_parts(client, make_batch, a_list):
    batch = make_batch("done", failed=1)
    with nothing_changes():
        for call in WITH_BODY:
            takes_file = call.route in {"batch-list", "list-list", "list-sync"} and call.method == "post"
            answer = call.send(client, batch, {"a": "b"}, format="multipart")
            if takes_file:
                assert errors_of(answer) == {"a"}, call
            else:
                assert refusal_of(answer) == (415, "unsupported_media_type"), call
        for content_type, code in (("multipart/form-data", "parse_error"), (MULTIPART, "invalid")):
            assert refusal_of(client.post("/api/batches/", b"{}", content_type=content_type)) == (400, code)
        assert refusal_of(client.post("/api/batches/", b"", content_type=JSON)) == (400, "invalid")


@pytest.mark.parametrize(
    ("path", "charset"),
    # In the others Django itself cannot decode a query.
    [("/api/batches/?name=%41%FF", charset) for charset in ("utf-16", "utf-7", "unicode_escape")]
    + [("/api/batches/", charset) for charset in ("zlib", "idna", "undefined", "rot13", "utf-16")],
)
def test_another_character_set_than_utf_8_is_refused(client, path, charset):
    for answer in (
        client.get(path, headers={"Content-Type": f"text/plain; charset={charset}"}),
        client.post(path, FORM % b"https://example.org/", content_type=f"{MULTIPART}; charset={charset}"),
    ):
        assert refusal_of(answer) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "template",
    [
        "%s",
        '{"name": "a", "profiles": [{"url": %s}]}',
        '{"x": %s}',
    ],
)
def test_nesting_of_any_depth_is_refused(client, template):
    # Just below the depth at which the parser fails, printing a value fails.
    for depth in [*range(900, 1000, 7), 10_000]:
        body = template % ("[" * depth + "]" * depth)
        assert client.post("/api/batches/", body, content_type=JSON).status_code == 400

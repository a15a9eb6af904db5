"""Whatever a client sends, the answer is an error in the API's own shape, never a fault."""

import json
import string
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .calls import FORM, LISTS, MULTIPART, WITH_BODY

pytestmark = pytest.mark.django_db

#: How many examples of each kind; the full number belongs to `make test-all`.
COUNTS = [pytest.param(5, id="few"), pytest.param(100, id="many", marks=pytest.mark.exhaustive)]

texts = st.text(st.characters(codec=None)) | st.text(alphabet="\0\ud800\udfff\uffff\x1f\u2028 a/:")
numbers = st.integers() | st.floats() | st.integers(min_value=-(10**40), max_value=10**40)
scalars = st.none() | st.booleans() | numbers | texts
FIELDS = ("name", "priority", "checker", "profiles", "queue", "strict", "file", "position", "reason", "url", "status")
names = texts | st.sampled_from(FIELDS)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=20)
# A body that is nearly valid gets further.
nearly_valid = st.fixed_dictionaries(
    {"name": texts | st.just("news"), "profiles": st.lists(st.just("https://example.org/") | values, max_size=5)},
    optional={
        "priority": numbers,
        "queue": st.booleans() | scalars,
        "strict": st.booleans() | scalars,
        "checker": st.sampled_from(["feed", "http"]) | texts,
    },
)
bodies = values | st.dictionaries(names, values) | nearly_valid


def try_examples(count, check, strategy):
    options = settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    options(given(strategy)(check))()


def assert_expected(answer):
    assert answer.status_code < 500
    if answer.streaming:
        b"".join(answer.streaming_content)
    elif answer.status_code >= 400:
        body = answer.json()
        assert {"code", "detail"} <= body.keys() <= {"code", "detail", "errors", "rejected", "batch"}
        assert all(isinstance(messages, list) and messages for messages in body.get("errors", {}).values())


@pytest.mark.parametrize("count", COUNTS)
def test_no_json_body_is_a_fault(client, make_batch, count):
    batch = make_batch("paused")

    def check(body):
        for call in WITH_BODY:
            assert_expected(call.send(client, batch, json.dumps(body), content_type="application/json"))

    try_examples(count, check, bodies)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    ("content_type", "template", "strategy"),
    [
        ("application/json", b"%s", st.binary() | st.text(string.printable).map(str.encode)),
        (MULTIPART, b"%s", st.binary() | st.text(string.printable).map(str.encode)),
        (MULTIPART, FORM, st.binary() | texts.map(partial(str.encode, errors="surrogatepass"))),
    ],
    ids=["JSON", "a form", "a file"],
)
def test_no_bytes_are_a_fault(client, content_type, template, strategy, count):
    def check(content):
        assert_expected(client.post("/api/batches/", template % content, content_type=content_type))

    try_examples(count, check, strategy)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("path", LISTS)
def test_no_query_is_a_fault(client, make_batch, path, count):
    address = f"/api/{path.format(pk=make_batch().pk)}"
    parameters = st.sampled_from([*LISTS[path], "cursor", "page_size"])

    def check(query):
        parts = [(name, value.encode(errors="surrogatepass")) for name, value in query.items()]
        assert_expected(client.get(address, query_params=parts))

    try_examples(count, check, st.dictionaries(parameters, texts | numbers.map(str), min_size=1, max_size=3))

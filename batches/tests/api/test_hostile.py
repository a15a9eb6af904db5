"""Whatever is sent, the answer is the API's own: never a fault, and always in one shape."""

import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batches.models import Batch

pytestmark = pytest.mark.django_db

texts = st.text(st.characters(codec=None)) | st.text(alphabet="\0\ud800\udfff\uffff\x1f\u2028 a/:")
numbers = st.integers() | st.floats() | st.integers(min_value=-(10**40), max_value=10**40)
scalars = st.none() | st.booleans() | numbers | texts
FIELDS = ("name", "priority", "checker", "profiles", "queue", "strict", "file", "position", "reason", "url", "status")
names = texts | st.sampled_from(FIELDS)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=20)
objects = st.dictionaries(names, values)
# What is nearly right gets further than what is wrong everywhere.
nearly = st.fixed_dictionaries(
    {"name": texts | st.just("news"), "profiles": st.lists(st.just("https://example.org/") | values, max_size=5)},
    optional={
        "priority": numbers,
        "queue": st.booleans() | scalars,
        "strict": st.booleans() | scalars,
        "checker": st.sampled_from(["feed", "http"]) | texts,
    },
)

hostile = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def assert_answered(answer):
    assert answer.status_code < 500
    if answer.status_code >= 400:
        body = answer.json()
        assert {"code", "detail"} <= body.keys() <= {"code", "detail", "errors", "rejected", "batch"}
        assert all(isinstance(messages, list) and messages for messages in body.get("errors", {}).values())


@hostile
@given(body=values | objects | nearly)
def test_no_json_body_is_a_fault_of_ours(client, body):
    text = json.dumps(body)
    pk = make(Batch.Status.PAUSED)
    for method, path in [
        ("post", "/api/batches/"),
        ("patch", f"/api/batches/{pk}/"),
        ("post", f"/api/batches/{pk}/move/"),
        ("post", f"/api/batches/{pk}/retry/"),
        ("post", "/api/queue/hold/"),
    ]:
        assert_answered(getattr(client, method)(path, text, content_type="application/json"))


def make(status):
    batch, _ = Batch.objects.get_or_create(name="a batch", defaults={"status": status})
    return batch.pk


@hostile
@given(body=st.binary() | st.text(string.printable).map(str.encode))
def test_no_bytes_are_a_fault_of_ours(client, body):
    for content_type in ("application/json", "multipart/form-data; boundary=x"):
        assert_answered(client.post("/api/batches/", body, content_type=content_type))


FORM = (
    b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nnews\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n%s\r\n--x--\r\n'
)


@hostile
@given(content=st.binary() | texts.map(lambda text: text.encode(errors="surrogatepass")))
def test_no_file_is_a_fault_of_ours(client, content):
    assert_answered(client.post("/api/batches/", FORM % content, content_type="multipart/form-data; boundary=x"))


PARAMETERS = ("status", "priority", "checker", "name", "created_after", "search", "ordering", "cursor", "page_size")


@hostile
@given(query=st.dictionaries(st.sampled_from(PARAMETERS), texts | numbers.map(str), min_size=1, max_size=3))
def test_no_query_is_a_fault_of_ours(client, query):
    parts = [(name, value.encode(errors="surrogatepass")) for name, value in query.items()]
    assert_answered(client.get("/api/batches/", query_params=parts))


@pytest.mark.parametrize("charset", ["utf-16", "utf-7", "unicode_escape"])
def test_a_character_set_in_which_the_query_would_read_differently_is_refused(client, charset):
    answer = client.get("/api/batches/?name=%41%FF", headers={"Content-Type": f"text/plain; charset={charset}"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("charset", ["zlib", "idna", "undefined", "rot13", "utf-16"])
def test_a_form_in_another_character_set_is_refused(client, charset):
    content_type = f"multipart/form-data; boundary=x; charset={charset}"
    answer = client.post("/api/batches/", FORM % b"https://example.org/", content_type=content_type)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "path", ["", "nonsense/", "batches", "batches/a/b/", "batches/a/b/c/", "batches/a/nonsense/", "%00", "%0A", "é/"]
)
@pytest.mark.parametrize("method", ["get", "post", "delete", "options"])
def test_an_address_without_a_call_is_not_found(client, method, path):
    answer = getattr(client, method)(f"/api/{path}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_a_method_that_a_call_does_not_have_is_refused(client):
    for method in ("put", "delete", "options", "patch"):
        answer = getattr(client, method)("/api/batches/")
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


def test_only_json_is_answered(client):
    answer = client.get("/api/batches/", headers={"Accept": "text/csv"})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
    assert client.get("/api/batches/", headers={"Accept": "text/html,*/*;q=0.8"})["Content-Type"] == "application/json"


def test_a_fault_is_not_dressed_up_as_an_answer(client, monkeypatch):
    def fail(*args, **kwargs):
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("batches.api.views.forecast_queue", fail)
    with pytest.raises(ZeroDivisionError, match="a fault"):
        client.get("/api/queue/")

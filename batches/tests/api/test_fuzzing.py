"""Generated calls: none causes a server error, and each response is described.

schemathesis makes them from the description; hypothesis adds the bytes of bodies and files.

`make test` makes a few of them. `make fuzz` also tries each bound of each parameter and field,
and makes FUZZ_EXAMPLES random calls of each operation.
"""

import os
import string
from collections import Counter
from functools import partial
from random import Random
from uuid import uuid4

import pytest
import schemathesis
from django.conf import settings as django_settings
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.transport.wsgi import WSGITransport

from batches.api.idempotency import KEY
from batches.batch_manager import BatchManager
from batches.models import Batch, ProfileList, Subscription
from batches.queue.values import as_uuid
from batches.tests.support.factories import api_key, make_list, subscribe

from .calls import FORM, MULTIPART
from .conftest import batch_with, make_root, refusal_of

#: Options of a real connection.
OF_SOCKETS = {"max_redirects", "verify", "cert", "proxies"}
HOSTILE = st.text(st.characters(codec=None)) | st.text(alphabet="\0\ud800\udfff\uffff\x1f\u2028 a/:")
MANY = int(os.environ.get("FUZZ_EXAMPLES", "50"))

pytestmark = pytest.mark.django_db(transaction=True)


def configure(examples, phases):
    return SchemathesisConfig.from_dict(
        {
            "generation": {"deterministic": True, "max-examples": examples, "no-shrink": True, "database": "none"},
            "phases": {name: {"enabled": name in phases} for name in ("examples", "coverage", "fuzzing", "stateful")},
            "checks": {
                # The description cannot say everything: which checkers exist, which texts are addresses, which cursors
                # were issued.
                "positive_data_acceptance": {"enabled": False},
            },
        }
    )


def use_a_living_batch_and_a_new_key(case, chance):
    """Give three in four calls the id of a batch or list in the database, which always has a batch in each status, and
    nine in ten a new key. Otherwise most POSTs would be refused as repetitions."""
    wanted = as_uuid(case.path_parameters.get("id"))
    if wanted and wanted.int % 4:
        others = {"/lists/": living_lists, "/subscriptions/": living_subscriptions}
        living = next((find for part, find in others.items() if part in case.path), living_batches)()
        case.path_parameters["id"] = str(living[wanted.int % len(living)])
    if KEY.fullmatch(str(case.headers.get("Idempotency-Key", ""))) and chance.random() < 0.9:
        case.headers["Idempotency-Key"] = str(uuid4())


def living_batches():
    there = dict(Batch.objects.values_list("status", "pk"))
    if "running" not in there:
        BatchManager().release_queue()
        # The other batches get their results from a run, so the running one comes last.
        for status in sorted(set(Batch.Status.values) - there.keys(), key=lambda status: status == "running"):
            there[status] = batch_with(status, profiles=3, failed=1).pk
    return [there.get(status) or batch_with(status).pk for status in Batch.Status.values]


def living_lists():
    return [*ProfileList.objects.values_list("pk", flat=True)[:5]] or [make_list(profiles=2).pk]


def living_subscriptions():
    found = ProfileList.objects.get(pk=living_lists()[0])
    return [*Subscription.objects.values_list("pk", flat=True)[:5]] or [subscribe(found).pk]


@pytest.mark.slow
@pytest.mark.databases("sqlite")
def test_a_few_calls_from_the_description_get_a_described_response(monkeypatch):
    assert {200, 201, 400, 401, 404} <= fuzz(monkeypatch, 3, ("examples", "fuzzing"))


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_every_call_from_the_description_gets_a_described_response(monkeypatch):
    statuses = fuzz(monkeypatch, MANY, ("examples", "coverage", "fuzzing"))
    assert {200, 201, 204, 304, 400, 401, 404, 405, 409, 422} <= statuses


def fuzz(monkeypatch, examples, phases):
    """The statuses of the answers, of which none is a fault and none is not described."""
    monkeypatch.setattr(django_settings, "BATCHES", {"API_RATE": "off", "API_ANONYMOUS_RATE": "off"})
    token = {"Authorization": f"Token {api_key(make_root())}"}
    config = configure(examples, phases)
    schema = schemathesis.openapi.from_wsgi("/api/schema/", get_wsgi_application(), config=config)
    answers, chance, send = Counter(), Random(1), WSGITransport.send

    def send_and_count(transport, case, **options):
        # Without the options of a real connection, with which schemathesis fails to repeat a call without a token.
        answer = send(transport, case, **{name: value for name, value in options.items() if name not in OF_SOCKETS})
        answers[answer.status_code] += 1
        return answer

    def check(case):
        if case.media_type == "multipart/form-data" and isinstance(case.body, dict) and "" in case.body.values():
            return  # werkzeug forgets the blank line of an empty part, and no parser finds it
        use_a_living_batch_and_a_new_key(case, chance)
        case.call_and_validate(headers=token)

    monkeypatch.setattr(WSGITransport, "send", send_and_count)
    for operation in schema.get_all_operations():
        build_operation_test(
            config=schema.config, operation=operation.ok(), test_func=check, given_kwargs={}, feedback=FeedbackSources()
        )()
    print(f"{sum(answers.values()):,} calls, answered with {dict(sorted(answers.items()))}")
    assert max(answers) < 500
    return answers.keys()


@pytest.mark.parametrize("count", [5, pytest.param(100, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(
    ("content_type", "template", "contents"),
    [
        ("application/json", b"%s", st.binary() | st.text(string.printable).map(str.encode)),
        (MULTIPART, b"%s", st.binary() | st.text(string.printable).map(str.encode)),
        (MULTIPART, FORM, st.binary() | HOSTILE.map(partial(str.encode, errors="surrogatepass"))),
    ],
    ids=["JSON", "a form", "a file"],
)
def test_no_bytes_cause_a_server_error(client, content_type, template, contents, count):
    @settings(max_examples=count, suppress_health_check=[HealthCheck.too_slow])
    @given(contents)
    def check(content):
        answer = client.post("/api/batches/", template % content, content_type=content_type)
        assert answer.status_code == 201 or refusal_of(answer)[0] in {400, 413}

    check()

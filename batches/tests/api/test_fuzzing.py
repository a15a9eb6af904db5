"""Calls that schemathesis makes up from the description: none is a fault, and each answer is described.

`make test` makes a few of them. `make fuzz` also tries each bound of each parameter and field,
and makes FUZZ_EXAMPLES random calls of each operation.
"""

import logging
import os
from collections import Counter
from contextlib import contextmanager
from random import Random
from uuid import uuid4

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from django.db import connections
from rest_framework.authtoken.models import Token
from rest_framework.throttling import SimpleRateThrottle
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.engine.statistic import Statistic
from schemathesis.transport.wsgi import WSGITransport

from batches.api.idempotency import KEY
from batches.batch_manager import BatchManager
from batches.models import Batch
from batches.queue.values import as_uuid

from .conftest import batch_with, make_root

#: Options of a real connection.
OF_SOCKETS = {"max_redirects", "verify", "cert", "proxies"}
MANY = int(os.environ.get("FUZZ_EXAMPLES", "50"))

pytestmark = pytest.mark.django_db(transaction=True)


def configure(token, examples, phases):
    return SchemathesisConfig.from_dict(
        {
            "headers": {"Authorization": f"Token {token}"},
            "continue-on-failure": True,
            "generation": {"deterministic": True, "max-examples": examples, "no-shrink": True, "database": "none"},
            "phases": {name: {"enabled": name in phases} for name in ("examples", "coverage", "fuzzing", "stateful")},
            "checks": {
                # The description cannot say everything: which checkers exist, which texts are addresses, which cursors
                # were issued.
                "positive_data_acceptance": {"enabled": False},
            },
        }
    )


class ThreadsOfTheTest:
    """The application for the threads of schemathesis; closes their connections."""

    def __init__(self):
        self.application = get_wsgi_application()
        self.connections = set()

    def __call__(self, environ, start_response):
        connection = connections["default"]
        if connection not in self.connections:
            connection.inc_thread_sharing()
            self.connections.add(connection)
        return self.application(environ, start_response)

    def close(self):
        for connection in self.connections:
            connection.close()


def send_within_the_process(transport, case, *, send=WSGITransport.send, **options):
    """Without the options of a real connection, with which schemathesis fails to repeat a call without a token."""
    return send(transport, case, **{name: value for name, value in options.items() if name not in OF_SOCKETS})


@contextmanager
def mostly_real_batches_and_new_keys():
    """Give three in four calls the id of a batch in the database, which always has one in each status, and nine in ten
    a new key. Otherwise most POSTs would be refused as repetitions."""
    chance = Random(1)

    def before_call(context, case, kwargs):
        wanted = as_uuid(case.path_parameters.get("id"))
        if wanted and wanted.int % 4:
            case.path_parameters["id"] = str(living_batches()[wanted.int % len(Batch.Status.values)])
        if KEY.fullmatch(str(case.headers.get("Idempotency-Key", ""))) and chance.random() < 0.9:
            case.headers["Idempotency-Key"] = str(uuid4())

    schemathesis.hook(before_call)
    yield
    schemathesis.hooks.unregister(before_call)


def living_batches():
    there = dict(Batch.objects.values_list("status", "pk"))
    if "running" not in there:
        BatchManager().release_queue()
        # The other batches get their results from a run, so the running one comes last.
        for status in sorted(set(Batch.Status.values) - there.keys(), key=lambda status: status == "running"):
            there[status] = batch_with(status, profiles=3, failed=1).pk
    return [there.get(status) or batch_with(status).pk for status in Batch.Status.values]


class Findings:
    """The answers and problems of a run."""

    def __init__(self):
        self.statistic = Statistic()
        self.answers = Counter()
        self.problems = []

    def collect(self, event):
        if isinstance(event, events.ScenarioFinished):
            self.statistic.on_scenario_finished(event.recorder)
            for interaction in event.recorder.interactions.values():
                if interaction.response is not None:
                    self.answers[interaction.response.status_code] += 1
        elif isinstance(event, events.NonFatalError):
            self.problems.append(f"{event.label}: {event.info.format()}")
        elif isinstance(event, events.FatalError):
            raise event.exception

    def failures(self, config):
        for groups in self.statistic.failures.values():
            for group in groups.values():
                yield group.format(index=None, curl=group.code_sample, config=config)


@pytest.mark.slow
@pytest.mark.databases("sqlite")
def test_a_few_calls_from_the_description_get_a_described_answer(caplog, monkeypatch):
    assert {200, 201, 400, 401, 404} <= fuzz(caplog, monkeypatch, 3, ("examples", "fuzzing"))


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_every_call_from_the_description_gets_a_described_answer(caplog, monkeypatch):
    statuses = fuzz(caplog, monkeypatch, MANY, ("examples", "coverage", "fuzzing"))
    assert {200, 201, 204, 304, 400, 401, 404, 405, 409, 422} <= statuses


def fuzz(caplog, monkeypatch, examples, phases):
    """The statuses of the answers, of which none is a fault and none is not described."""
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(WSGITransport, "send", send_within_the_process)
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"user": None, "anon": None})
    token = Token.objects.create(user=make_root())
    application = ThreadsOfTheTest()
    config = configure(token.key, examples, phases)
    schema = schemathesis.openapi.from_wsgi("/api/schema/", application, config=config)
    findings = Findings()
    with mostly_real_batches_and_new_keys():
        for event in from_schema(schema).execute():
            findings.collect(event)
    application.close()
    print(f"{sum(findings.answers.values()):,} calls, answered with {dict(sorted(findings.answers.items()))}")
    problems = [*findings.problems, *findings.failures(schema.config.output)]
    assert not problems, "\n\n".join(problems)
    assert max(findings.answers) < 500
    return findings.answers.keys()

"""Calls made up from the API's own description, by schemathesis: none is a fault, and each answer is as described.

`make fuzz` makes more of them: FUZZ_EXAMPLES is how many random ones each operation gets, on top of those that try each
bound of each parameter and field.
"""

import logging
import os
from collections import Counter
from contextlib import contextmanager
from random import Random
from uuid import UUID, uuid4

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

from .conftest import batch_with, user_of

LONG = "FUZZ_EXAMPLES" in os.environ
OF_SOCKETS = {"max_redirects", "verify", "cert", "proxies"}
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "5"))

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(3600 if LONG else 300),
    pytest.mark.databases(*(("sqlite", "postgresql") if LONG else ("sqlite",))),
]


def configured(token):
    return SchemathesisConfig.from_dict(
        {
            "headers": {"Authorization": f"Token {token}"},
            "continue-on-failure": True,
            "generation": {"deterministic": not LONG, "max-examples": EXAMPLES, "no-shrink": True, "database": "none"},
            "phases": {"stateful": {"enabled": False}},
            "checks": {
                # The description cannot say all: that a checker is known, that a text is an address, that a cursor is
                # one that was given out.
                "positive_data_acceptance": {"enabled": False},
            },
        }
    )


class ThreadsOfTheTest:
    """The application for threads of schemathesis; closes their connections, which else live as long as they."""

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
    """As it is sent otherwise, but for what belongs to a socket.

    With that, schemathesis' repetition of a call without a token fails before it is sent.
    """
    return send(transport, case, **{name: value for name, value in options.items() if name not in OF_SOCKETS})


@contextmanager
def mostly_real_batches_and_new_keys():
    """Makes three in four valid ids those of batches in the database, where there is always one in each status, and
    nine in ten valid keys new ones: else most POSTs would be refused as the repetition of another one."""
    chance = Random(1)

    def before_call(context, case, kwargs):
        wanted = case.path_parameters.get("id")
        if isinstance(wanted, UUID | str) and (number := as_number(wanted)) is not None and number % 4:
            case.path_parameters["id"] = str(living_batches()[number % len(Batch.Status.values)])
        if KEY.fullmatch(str(case.headers.get("Idempotency-Key", ""))) and chance.random() < 0.9:
            case.headers["Idempotency-Key"] = str(uuid4())

    schemathesis.hook(before_call)
    yield
    schemathesis.hooks.unregister(before_call)


def as_number(text):
    try:
        return UUID(str(text)).int
    except ValueError:
        return None


def living_batches():
    there = dict(Batch.objects.values_list("status", "pk"))
    if "running" not in there:
        BatchManager().release_queue()
        # A run is what gives profiles results, so all others are made before one takes the run for itself.
        for status in sorted(set(Batch.Status.values) - there.keys(), key=lambda status: status == "running"):
            there[status] = batch_with(status, profiles=3, failed=1).pk
    return [there.get(status) or batch_with(status).pk for status in Batch.Status.values]


class Findings:
    """What schemathesis says of a run."""

    def __init__(self):
        self.statistic = Statistic()
        self.answers = Counter()
        self.problems = []

    def take(self, event):
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


def test_no_call_made_up_from_the_description_is_a_fault_or_gets_an_answer_that_is_not_described(caplog, monkeypatch):
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(WSGITransport, "send", send_within_the_process)
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"user": None, "anon": None})
    token = Token.objects.create(user=user_of("root"))
    application = ThreadsOfTheTest()
    schema = schemathesis.openapi.from_wsgi("/api/schema/", application, config=configured(token.key))
    findings = Findings()
    with mostly_real_batches_and_new_keys():
        for event in from_schema(schema).execute():
            findings.take(event)
    application.close()
    print(f"{sum(findings.answers.values()):,} calls, answered with {dict(sorted(findings.answers.items()))}")
    problems = [*findings.problems, *findings.failures(schema.config.output)]
    assert not problems, "\n\n".join(problems)
    assert max(findings.answers) < 500
    assert {200, 201, 204, 304, 400, 401, 404, 405, 409, 422} <= findings.answers.keys()

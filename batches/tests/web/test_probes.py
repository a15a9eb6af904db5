"""The addresses for monitoring work outside ALLOWED_HOSTS, without HTTPS, and without signing in."""

import logging
from datetime import timedelta
from functools import partial
from threading import Event

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.conf import get_config, worker_command
from batches.models import OUTDATED, Batch
from batches.tests.support.factories import age_workers, claim, make_batch
from batches.tests.support.threads import in_thread
from batches.tests.test_production import POLICY
from batches.web import probes
from batches.web.outages import UNAVAILABLE

pytestmark = pytest.mark.django_db(transaction=True)

NO_WORKER = f"No worker has sent a heartbeat within BATCHES_LEASE_SECONDS. Start one: {worker_command()}"

WAIT = 60


@pytest.fixture(autouse=True)
def each_question_is_asked(monkeypatch):
    monkeypatch.setattr(probes, "SECONDS", 0.0)


@pytest.fixture
def probe(settings):
    settings.SECURE_SSL_REDIRECT = True
    client = Client(headers={"host": "10.0.0.5:8000"})
    return lambda path: (response := client.get(path)) and (response.status_code, response.content.decode().strip())


def let_a_worker_look():
    BatchManager(actor="worker", channel="worker").claim_run("worker")


def test_the_process_answers_without_the_database(probe, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert probe("/healthz") == (200, "ok")


def test_the_answers_have_the_policy_and_are_never_stored():
    response = Client().get("/healthz")
    assert (response["Content-Security-Policy"], response["Cache-Control"]) == (POLICY, "no-store")


def test_it_is_ready_while_a_worker_looks_for_work(probe):
    assert probe("/readyz") == (503, NO_WORKER)
    assert probe("/readyz?exclude=worker") == (200, "ok")
    let_a_worker_look()
    assert probe("/readyz") == (200, "ok")
    late = timedelta(seconds=get_config().lease_seconds + 5)
    age_workers(late)
    assert probe("/readyz") == (503, NO_WORKER)


def test_with_celery_every_page_names_its_command_and_not_one_that_refuses(probe, configure, manage):
    configure(executor="celery")
    client, command = Client(), "celery -A batchproject worker"
    client.force_login(User.objects.create_superuser("root"))
    BatchManager().start_batch(make_batch("started", 2).pk)
    Batch.objects.update(started_at=timezone.now() - timedelta(hours=1))
    texts = [probe("/readyz")[1], manage("batch", "doctor")[1]]
    texts += [client.get(f"/admin/{path}", secure=True).content.decode() for path in ("", "batches/batch/queue/")]
    assert [(command in text, "batchworker" in text) for text in texts] == [(True, False)] * 4


def test_it_is_ready_while_a_worker_renews_its_lease(probe):
    make_batch("long", 3)
    run = claim()
    age_workers()
    assert probe("/readyz") == (503, NO_WORKER)
    assert BatchManager().renew_lease(run.batch.pk, run.run_token)
    assert probe("/readyz") == (200, "ok")


def test_it_is_not_ready_before_the_migrations(probe):
    let_a_worker_look()
    recorder, [latest] = MigrationRecorder(connection), MigrationLoader(None).graph.leaf_nodes("batches")
    recorder.record_unapplied(*latest)
    try:
        assert probe("/readyz") == (503, OUTDATED)
        assert probe("/readyz?exclude=migrations") == (200, "ok")
    finally:
        recorder.record_applied(*latest)
    assert probe("/readyz") == (200, "ok")


def test_a_database_that_is_away_is_reported_without_its_name_and_logged_once(probe, monkeypatch, caplog):
    let_a_worker_look()

    def fail(*_):
        raise OperationalError('connection to server at "db.internal" failed')

    with monkeypatch.context() as patched:
        patched.setattr(probes, "find_obstacle", fail)
        assert [probe("/readyz") for _ in range(3)] == [(503, UNAVAILABLE)] * 3
    assert probe("/readyz") == (200, "ok")
    logged = [(record.name, record.levelno, record.getMessage()) for record in caplog.records]
    assert logged == [(probes.__name__, logging.WARNING, f"Not ready: {UNAVAILABLE}")]


def test_a_request_while_the_database_hangs_gets_the_last_response(probe, monkeypatch):
    let_a_worker_look()
    assert probe("/readyz") == (200, "ok")
    asked, over = Event(), Event()

    def hang(*_):
        asked.set()
        assert over.wait(WAIT)
        return ""

    monkeypatch.setattr(probes, "find_obstacle", hang)
    first = in_thread(partial(probe, "/readyz"))
    assert asked.wait(WAIT)
    try:
        assert probe("/readyz") == (200, "ok")
    finally:
        over.set()
        assert first.result(WAIT) == (200, "ok")


def test_many_requests_in_a_second_cost_one_query(probe, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(probes, "SECONDS", WAIT)
    let_a_worker_look()
    assert probe("/readyz") == (200, "ok")
    with django_assert_num_queries(0):
        assert {probe("/readyz") for _ in range(20)} == {(200, "ok")}

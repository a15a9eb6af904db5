"""Fixtures for all tests. A test with a database runs on SQLite and on a PostgreSQL that the run starts by itself."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.test.utils import setup_databases

from batches.tests.support.postgres import PostgresUnavailableError, temporary_postgres
from batchproject.settings import parse_database_url

VENDORS = ("sqlite", "postgresql")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database", choices=VENDORS, help="Run tests with a database on this one only.")


def pytest_configure() -> None:
    # Users are made in many tests, and a real hash takes 0.1 s on purpose.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Gives each test that has a database a turn on each of them."""
    if metafunc.definition.get_closest_marker("django_db") and "database_url" not in metafunc.fixturenames:
        # pytest-django looks at the mark only when the test is set up: too late for a parameter.
        metafunc.fixturenames.append("database_url")
    if "database_url" in metafunc.fixturenames:
        # With `-n 2 --dist loadgroup`, the tests of a database stay together in one process.
        vendors = [pytest.param(it, marks=pytest.mark.xdist_group(it)) for it in wanted_vendors(metafunc.definition)]
        metafunc.parametrize("database_url", vendors, indirect=True, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    deselect_other_databases(config, items)
    # pytest's own grouping still goes back and forth where a test keeps to one database: each turn sets one up anew.
    items.sort(key=turn)


def deselect_other_databases(config: pytest.Config, items: list[pytest.Item]) -> None:
    if chosen := config.getoption("database"):
        config.hook.pytest_deselected(items=[test for test in items if vendor_of(test) not in {chosen, None}])
        items[:] = [test for test in items if vendor_of(test) in {chosen, None}]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """What a hostile text has left in a log is no UTF-8, in which pytest-xdist hands reports over."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


def vendor_of(test: pytest.Item) -> str | None:
    callspec = getattr(test, "callspec", None)
    return callspec.params.get("database_url") if callspec else None


def turn(test: pytest.Item) -> int:
    vendor = vendor_of(test)
    return VENDORS.index(vendor) if vendor else len(VENDORS)


def wanted_vendors(test: pytest.Item) -> tuple[str, ...]:
    marker = test.get_closest_marker("databases")
    vendors = marker.args if marker else VENDORS
    if not vendors or not set(vendors) <= set(VENDORS):
        raise pytest.UsageError(f"{test.nodeid}: the marker `databases` takes some of {VENDORS}, not {vendors}.")
    return vendors


@pytest.fixture(scope="session")
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The DATABASE_URL of the test's own database; a child process opens the same one with it."""
    if request.param == "sqlite":
        # A file: what other processes see, WAL, and locks that are waited for do not exist in memory.
        yield f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'test.sqlite3'}"
        return
    try:
        with temporary_postgres() as url:
            yield url
            return
    except PostgresUnavailableError as error:
        reason = str(error)
    skip_or_fail(reason)


def skip_or_fail(reason: str) -> None:
    """Where nobody reads the reasons of skipped tests, a database that was not tested is a failure."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def django_db_setup(database_url: str, django_test_environment: None, django_db_blocker) -> Iterator[None]:
    """Takes the place of pytest-django's fixture, which knows only the one database of the settings."""
    with default_database(database_url):
        with django_db_blocker.unblock():
            setup_databases(verbosity=0, interactive=False, aliases={DEFAULT_DB_ALIAS}, serialized_aliases=set())
        # The database goes with its directory or its server.
        yield


@contextmanager
def default_database(url: str) -> Iterator[None]:
    """Makes `url` the default database, with the settings that an installation would have for it."""
    configured = parse_database_url(url)
    configured["TEST"] = {"NAME": configured["NAME"]}
    before = connections.settings[DEFAULT_DB_ALIAS]
    _use(connections.configure_settings({DEFAULT_DB_ALIAS: configured})[DEFAULT_DB_ALIAS])
    try:
        yield
    finally:
        _use(before)


def _use(configured: dict) -> None:
    connections[DEFAULT_DB_ALIAS].close()
    del connections[DEFAULT_DB_ALIAS]
    connections.settings[DEFAULT_DB_ALIAS] = configured


@pytest.fixture
def vendor(django_db_setup: None) -> str:
    """ "sqlite" or "postgresql"."""
    return connection.vendor

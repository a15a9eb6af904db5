"""The base of all other tests: the database that a name says, the choice of databases, and no unnoticed skips."""

from collections import Counter

import pytest
from django.core.management import call_command
from django.db import connection

from batches.tests.conftest import FOUND, VENDORS, find_pairs, find_repetitions, skip_or_fail, vendor_of


@pytest.mark.django_db
def test_a_test_runs_on_the_database_that_its_name_says(vendor, request):
    assert vendor in request.node.name
    assert connection.vendor == vendor


@pytest.mark.django_db
def test_the_system_checks_pass(settings):
    settings.SILENCED_SYSTEM_CHECKS = ["batches.W002"]  # depends on the machine's SQLite
    call_command("check", fail_level="WARNING", databases=["default"])


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception), ("1", pytest.fail.Exception)]
)
def test_tests_without_their_database_are_skipped_but_fail_under_ci(ci, outcome, monkeypatch):
    monkeypatch.setenv("CI", ci)
    # Both kinds are caught: an unexpected skip would only skip this test.
    with pytest.raises((pytest.skip.Exception, pytest.fail.Exception), match="no server") as raised:
        skip_or_fail("no server")
    assert raised.type is outcome


# -- The choice of databases: `make test` runs every test on one at least, and half of them on each ------------------


@pytest.fixture
def found(request):
    """All tests that were collected with this one, in `make test` the whole project's."""
    return request.config.stash[FOUND]


def test_tests_that_are_left_out_on_a_database_run_on_the_other(found):
    left_out = set(find_repetitions(found))
    pairs = [set(pair) for _, pair in find_pairs(found)]
    assert all({vendor_of(test) for test in pair} == set(VENDORS) for pair in pairs)
    assert all(len(pair & left_out) <= 1 for pair in pairs)
    assert left_out <= set().union(*pairs)


def test_the_parameters_of_a_test_take_turns(found):
    left_out = Counter((test.nodeid.partition("[")[0], vendor_of(test)) for test in find_repetitions(found))
    shared = {test.nodeid.partition("[")[0] for test in found if test.get_closest_marker("exhaustive_on")}
    for name in {name for name, _ in left_out} - shared:
        on_sqlite, on_postgresql = (left_out[name, vendor] for vendor in VENDORS)
        assert abs(on_sqlite - on_postgresql) <= 1, name

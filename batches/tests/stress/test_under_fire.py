"""The stress harness in its short form: every fault a few times on each database, and every mutant of the project.

`make stress` runs the full counts.
"""

import json
import os
import subprocess
import sys
from functools import cache

import pytest
from django.conf import settings

from batches.models import Batch
from batches.tests.conftest import VENDORS, skip_or_fail
from batches.tests.support.factories import make_batch
from batches.tests.support.postgres import PostgresUnavailableError
from stress import watcher
from stress.faults import FAULTS
from stress.mutants import MUTANTS

#: Of the full counts: 5 kills, 20 pairs, 10 pauses, one of most.
SCALE = 0.01

#: Where nobody else may steer the queue: it would be in the state that somebody left, not the one that is tried.
ALONE = {"pause", "pairs", "poison"}

# The first test of a database waits for all of it.
pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("harness")]


@cache
def harnesses():
    """One per database, at the same time: most of it is waiting for leases to run out."""
    options = [f"--scale={SCALE}", "--mutants=all", "--json"]
    return {
        vendor: subprocess.Popen(
            [sys.executable, "-m", "stress", f"--database={vendor}", *options],
            cwd=settings.BASE_DIR,
            # What is broken stays broken; how fast it goes on is for the full counts on a machine of their own.
            env=os.environ | {"STRESS_TOLERANCE": "15"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for vendor in VENDORS
    }


@cache
def said(vendor):
    return harnesses()[vendor].communicate()


def outcomes(vendor):
    """What came of each fault, and of each mutant, by its name."""
    output, errors = said(vendor)
    if PostgresUnavailableError.__name__ in errors:
        skip_or_fail(errors.splitlines()[-1])
    assert output, errors
    return {outcome["mutant"] or outcome["fault"]: outcome for outcome in json.loads(output)}


@pytest.fixture(scope="session", autouse=True)
def _end_of_harnesses():
    """Not the module's: its tests with a database have their turns among those of other modules."""
    yield
    if harnesses.cache_info().currsize:
        for harness in harnesses().values():
            harness.terminate()
            harness.wait()


def on_each(kind):
    """(database, name) for every fault or mutant that there is on it."""
    return [(vendor, name) for vendor in VENDORS for name, it in kind.items() if vendor in it.databases]


def outcome_of(vendor, name):
    outcome = outcomes(vendor)[name]
    if outcome["not_tried"]:
        pytest.skip(f"{name} was not tried: {outcome['not_tried']}")
    return outcome


@pytest.mark.parametrize(("vendor", "name"), on_each(FAULTS))
def test_nothing_is_lost_and_nothing_is_done_twice(vendor, name):
    outcome = outcome_of(vendor, name)
    assert outcome["breaches"] == []
    assert outcome["tried"] == outcome["wanted"]
    assert outcome["looks"]
    assert bool(outcome["calls"]) is (name not in ALONE)


@pytest.mark.parametrize(("vendor", "name"), on_each(MUTANTS))
def test_the_harness_finds_what_a_missing_safeguard_breaks(vendor, name):
    assert outcome_of(vendor, name)["breaches"]


# -- The watcher -------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"position": 5}, "the waiting batches stand at [1, 5]"),
        ({"total_profiles": 3}, "counts 3 as total_profiles, its rows are 2"),
        ({"completed_profiles": 1, "failed_checks": 1}, "counts 1 as failed_checks, its rows are 0"),
    ],
)
def test_the_watcher_tells_what_is_wrong(change, told):
    make_batch("first")
    second = make_batch("second", 2)
    assert watcher.look()[0] == []
    Batch.objects.filter(pk=second.pk).update(**change)
    assert any(told in breach for breach in watcher.look()[0])


def test_the_watcher_tells_once_that_nothing_moves(monkeypatch):
    now = 0.0
    monkeypatch.setattr(watcher.time, "monotonic", lambda: now)
    stall = watcher.Stall(limit=2.0)
    found = []
    for moment, movement in [(1, 1), (2, 1), (4, 1), (9, 1), (9.5, 2)]:
        now = moment
        found.append(bool(stall.grown(movement, is_waiting=True)))
    assert found == [False, False, True, False, False]
    now = 99
    assert stall.grown(2, is_waiting=False) == []

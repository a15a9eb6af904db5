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

from batches.tests.conftest import VENDORS, skip_or_fail
from batches.tests.postgres import PostgresUnavailableError
from stress.faults import FAULTS
from stress.mutants import MUTANTS

#: Of the full counts: 5 kills, 20 pairs, 10 pauses, one of most.
SCALE = 0.01

# The first test of a database waits for all of it.
pytestmark = pytest.mark.timeout(600)


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


@pytest.fixture(scope="module", autouse=True)
def _end_of_harnesses():
    yield
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


@pytest.mark.parametrize(("vendor", "name"), on_each(MUTANTS))
def test_the_harness_finds_what_a_missing_safeguard_breaks(vendor, name):
    assert outcome_of(vendor, name)["breaches"]

"""A short run of the stress harness. `make test` tries a few faults and mutants, `make test-all` every one of them.

`make stress` runs the full counts.
"""

import json
import os
import random
import re
import subprocess
import sys

import pytest
from django.conf import settings

from batches.tests.conftest import VENDORS, skip_or_fail
from batches.tests.support.postgres import PostgresUnavailableError
from stress import watcher
from stress.callers import Credentials
from stress.databases import SQLite
from stress.faults import FAULTS
from stress.mutants import MUTANTS
from stress.server import Server
from stress.stage import House, Stage

#: Of the full counts: 5 kills, 20 pairs, 10 pauses, one of most.
SCALE = 0.01

#: What `make test` tries.
SLICE = {"kill", "pairs", "no-run-token"}

#: Faults that need the queue to themselves: other callers would change the state that is tried.
ALONE = {"hosts", "pause", "pairs", "poison", *(name for name in FAULTS if name.startswith("celery-"))}

# The first test of a database waits for the whole run.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("stress")]


def on_each_database(kind):
    return [
        pytest.param(vendor, name, marks=[] if name in SLICE else pytest.mark.exhaustive)
        for vendor in VENDORS
        for name, it in kind.items()
        if vendor in it.databases
    ]


@pytest.fixture(scope="module")
def runs(request):
    """One process for each database, at the same time: most of it is waiting for leases to run out."""
    chosen = {vendor: [] for vendor in VENDORS}
    for test in request.session.items:
        if test.path == request.path and hasattr(test, "callspec"):
            chosen[test.callspec.params["vendor"]].append(test.callspec.params["name"])
    processes = {vendor: start_harness(vendor, names) for vendor, names in chosen.items() if names}
    yield processes
    for process in processes.values():
        process.terminate()
        process.wait()


def start_harness(vendor, names):
    faults = ",".join(name for name in FAULTS if name in names) or "none"
    mutants = ",".join(name for name in MUTANTS if name in names)
    options = [f"--database={vendor}", f"--faults={faults}", f"--mutants={mutants}", f"--scale={SCALE}", "--json"]
    # These tests are about what breaks. How fast the queue recovers is measured by the full counts, on an idle machine.
    environ = os.environ | {"STRESS_TOLERANCE": "15"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-m", "stress", *options], cwd=settings.BASE_DIR, env=environ, text=True, **pipes
    )


@pytest.fixture(scope="module")
def outcomes(runs):
    """Reads the outcome of each fault and each mutant on a database, once."""
    read = {}

    def outcomes(vendor):
        if vendor not in read:
            output, errors = runs[vendor].communicate()
            if PostgresUnavailableError.__name__ in errors:
                skip_or_fail(errors.splitlines()[-1])
            assert output, errors
            read[vendor] = {outcome["mutant"] or outcome["fault"]: outcome for outcome in json.loads(output)}
        return read[vendor]

    return outcomes


@pytest.mark.parametrize(("vendor", "name"), on_each_database(FAULTS))
def test_nothing_is_lost_and_nothing_is_done_twice(vendor, name, outcomes):
    outcome = outcomes(vendor)[name]
    if reason := outcome["not_tried"]:
        # A program can be installed anywhere; root and network namespaces are not available everywhere.
        is_installable = re.search("is missing|is not installed", reason)
        (skip_or_fail if is_installable else pytest.skip)(f"{name} was not tried: {reason}")
    assert outcome["breaches"] == [], outcome["replay"]
    assert outcome["replay"].endswith(f" --database {vendor} --scale {SCALE} --faults {name}")
    assert outcome["tried"] == outcome["wanted"]
    assert outcome["snapshots"]
    assert bool(outcome["calls"]) is (name not in ALONE)


@pytest.mark.parametrize(("vendor", "name"), on_each_database(MUTANTS))
def test_the_harness_finds_what_a_missing_safeguard_breaks(vendor, name, outcomes):
    assert outcomes(vendor)[name]["breaches"]


def test_the_watcher_reports_once_that_nothing_moves(monkeypatch):
    now = 0.0
    monkeypatch.setattr(watcher.time, "monotonic", lambda: now)
    stall = watcher.Stall(limit=2.0)
    reported = []
    for moment, movement in [(1, 1), (2, 1), (4, 1), (9, 1), (9.5, 2)]:
        now = moment
        reported.append(bool(stall.update(movement, is_waiting=True)))
    assert reported == [False, False, True, False, False]
    now = 99
    assert stall.update(2, is_waiting=False) == []


def choose(link):
    link.send([random.random() for _ in range(3)])


def test_each_process_makes_the_same_choices_again_with_the_same_seed(tmp_path):
    def start_two(seed):
        stage = Stage(House(SQLite(tmp_path / "unused"), Server(0), tmp_path / "log", Credentials("", "")), seed=seed)
        return [stage.start(choose).link.recv() for _ in range(2)]

    first = start_two("7 kill")
    assert start_two("7 kill") == first
    assert len({tuple(choices) for choices in first + start_two("8 kill")}) == 4

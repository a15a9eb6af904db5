"""The benchmarks: what they compare, how they continue after an interruption, and that one of them works."""

import gzip
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager

import pytest

from batches.checking.checkers.parse import read_quickly
from batches.tests.support.documents import read_section
from benchmarks import commands, documents, model
from benchmarks.__main__ import measure
from benchmarks.commands import ROOT
from benchmarks.frame import OURS, Contender, Contest, Goal, Row, Scale
from benchmarks.services import internet
from benchmarks.store import Store

pytestmark = pytest.mark.databases("sqlite")

SPEED = "speed"


@pytest.fixture(autouse=True)
def no_limit():
    yield
    commands.limit_commands(float("inf"))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results.json")


def make_row(calls, goals=(), **speeds):
    """A row with contenders that note their calls. A speed can be an exception."""

    def contender(name, speed):
        def turn():
            calls.append(name)
            if isinstance(speed, BaseException):
                raise speed
            return {SPEED: speed}

        return Contender(name, turn)

    @contextmanager
    def open_row(scale):
        yield Contest([contender(name, speed) for name, speed in speeds.items()], list(goals), "Nothing differs.")

    return Row("row", "A row", 1, open_row)


def measured(store, row, rounds=2):
    measure(store, row, Scale(), rounds, 60)
    return store.content["rows"]["row"]


@pytest.mark.parametrize(
    ("goal", "values", "reached"),
    [
        (Goal("", SPEED, 5), [10, 30], True),
        (Goal("", SPEED, 5, at_most=True), [10, 30], False),
        (Goal("", SPEED, 3, against=("slow", "fast")), [2.5, 3.0], False),
        (Goal("", SPEED, 2.5, against=("slow", "fast")), [2.5, 3.0], True),
        (Goal("", SPEED, 2.5, against=("slow", "missing")), [5.0, 15.0], True),
        (Goal("", SPEED, 1, against=("missing",)), [], None),
        (Goal("", SPEED, 4, against=("fast",), against_figure="memory"), [5.0], True),
    ],
)
def test_a_goal_compares_within_each_round_and_with_the_best(store, goal, values, reached):
    rounds = [
        {OURS: {SPEED: 10}, "slow": {SPEED: 2}, "fast": {SPEED: 4}},
        {OURS: {SPEED: 30}, "slow": {SPEED: 2}, "fast": {SPEED: 10, "memory": 6}},
    ]
    assert goal.values(rounds) == values
    record = store.begin(make_row([]))
    record["rounds"] = rounds
    store.finish(record, Contest([], [goal]))
    assert record["goals"][0]["reached"] is reached


def test_an_interrupted_row_continues_where_it_stopped(store):
    calls = []
    with pytest.raises(KeyboardInterrupt):
        measured(store, make_row(calls, ours=1.0, other=KeyboardInterrupt()))
    again = Store(store._path)
    record = measured(again, make_row(calls, ours=1.0, other=2.0))
    assert calls == ["ours", "other", "other", "ours", "other"]
    assert record["rounds"] == [{"ours": {SPEED: 1.0}, "other": {SPEED: 2.0}}] * 2
    assert again.is_finished(make_row([]), 2)
    assert not again.is_finished(make_row([]), 3)


def test_a_small_document_is_a_feed_of_the_promised_size():
    for document, size in ((documents.small_feed(7), documents.SIZE), (documents.small_feed(7, 1), documents.SIZE + 1)):
        assert (len(read_quickly(document).entries), len(document)) == (documents.STORIES, size)


def test_a_large_document_has_the_promised_size_when_it_is_compressed():
    document = documents.large_feed(7)
    assert len(read_quickly(document).entries) == documents.LARGE_STORIES
    assert len(gzip.compress(document)) == pytest.approx(documents.LARGE_SIZE, rel=0.03)
    assert document == documents.large_feed(7) != documents.large_feed(8)


def test_two_of_100_hosts_are_dead_two_are_tarpits_and_one_has_no_address():
    kinds = [internet.kind_of(number) for number in range(100)]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        internet.GOOD: 95, internet.DEAD: 2, internet.TARPIT: 2, internet.MISSING: 1,
    }  # fmt: skip


def test_the_page_has_the_limits_of_the_model_the_lowest_first():
    page = read_section("explanation/performance.md", "A large installation")
    shown = [rate.replace(",", "") for rate in re.findall(r"^\| [a-z][^|]*\| ([\d,]+) \|", page, re.MULTILINE)]
    assert len(shown) == 5
    limits = model.find_limits(model.Installation())
    assert list(map(float, shown)) == [float(f"{limit.rate:.3g}") for limit in limits[:5]]


@pytest.fixture
def measure_small(tmp_path):
    """Runs `python -m benchmarks --small` and returns what it stored of the row."""

    def measure_small(row):
        environment = {**os.environ, "BENCH_VAR": str(tmp_path)}
        command = [sys.executable, "-m", "benchmarks", "--small", row]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads((tmp_path / "small.json").read_text())["rows"][row]

    return measure_small


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_small_benchmark_works(measure_small):
    queries = next(goal for goal in measure_small("transitions-sqlite")["goals"] if goal["at_most"])
    assert queries["reached"]


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_a_small_benchmark_works_without_any_of_its_peers(measure_small):
    row = measure_small("checks-sqlite-1")
    [checks] = row["rounds"]
    assert checks[OURS]["checks/s"] > 0
    assert checks["grouped plain SQL"]["checks/s"] > 0
    assert row["problems"]["huey"] == "huey is not installed: make bench"

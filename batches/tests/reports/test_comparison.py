"""The comparison of a repeat with its previous batch."""

import re

import pytest
from django.db import connection

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchProfile
from batches.reports.comparison import Change, compare, filter_by_change, find_previous
from batches.tests.support.factories import failed, make_batch, ok, profile_ids, record, start_run
from batches.tests.support.tables import statements_of

pytestmark = pytest.mark.django_db

#: The change by (before, now); None: no result.
PAIRS = {
    ("ok", "ok"): Change.UNCHANGED,
    ("ok", "failed"): Change.NEWLY_FAILING,
    ("ok", None): Change.NOT_COMPARED,
    ("failed", "ok"): Change.RECOVERED,
    ("failed", "failed"): Change.UNCHANGED,
    ("failed", None): Change.NOT_COMPARED,
    (None, "ok"): Change.NOT_COMPARED,
    (None, "failed"): Change.NOT_COMPARED,
    (None, None): Change.NOT_COMPARED,
}


def check(batch, outcomes):
    """Record an outcome for each profile and pause the batch."""
    run = start_run(batch)
    results = {"ok": ok(), "failed": failed()}
    pairs = zip(profile_ids(batch), outcomes, strict=True)
    record(run, [(pk, results[outcome]) for pk, outcome in pairs if outcome])
    BatchManager().pause_batch(batch.pk)


def find_changed_rows(batch, change):
    return filter_by_change(batch.profiles.all(), find_previous(batch), change)


@pytest.fixture
def repeat():
    """A repeat with a profile for each of the PAIRS."""
    first = make_batch("first", len(PAIRS))
    check(first, [before for before, _ in PAIRS])
    repeat = BatchManager().repeat_batch(first.pk)
    check(repeat, [now for _, now in PAIRS])
    return repeat


@pytest.mark.parametrize("change", Change)
def test_the_rows_of_each_change_match_its_count(repeat, change):
    expected = [pk for pk, pair in zip(profile_ids(repeat), PAIRS, strict=True) if PAIRS[pair] == change]
    rows = find_changed_rows(repeat, change).order_by("pk")
    assert compare(repeat).previous == repeat.previous
    assert [row.profile_id for row in rows] == expected
    assert {row.batch_id for row in rows} == {repeat.pk}
    assert getattr(compare(repeat), change) == rows.count() == len(expected)


def test_a_profile_that_the_previous_batch_lacks_is_not_compared(repeat):
    missing = BatchProfile.objects.filter(batch=repeat.previous, status="ok").order_by("pk")[0]
    before = compare(repeat)
    missing.delete()
    compared = compare(repeat)
    assert (compared.unchanged, compared.not_compared) == (before.unchanged - 1, before.not_compared + 1)
    assert find_changed_rows(repeat, Change.NOT_COMPARED).filter(profile=missing.profile).exists()


def test_a_first_batch_is_not_compared():
    batch = make_batch(profiles=2)
    assert compare(batch) is None
    assert not find_changed_rows(batch, Change.UNCHANGED).exists()


def test_a_deleted_previous_batch_is_not_compared_even_before_its_rows_are_removed(repeat):
    Batch.everything.filter(pk=repeat.previous_id).update(deleted_at=repeat.created_at)
    assert compare(repeat) is None
    assert not find_changed_rows(repeat, Change.UNCHANGED).exists()


def test_each_row_is_read_once(repeat):
    [counting] = [sql for sql in statements_of(lambda: compare(repeat)) if "batches_batchprofile" in sql]
    assert counting.count("batches_batchprofile") == 2  # of the batch, and of the previous one


BIG = 20_000


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "collected",
    [
        pytest.param("never", marks=pytest.mark.exhaustive_on("postgresql")),
        pytest.param("before the batches", marks=pytest.mark.exhaustive_on("sqlite")),
        pytest.param("now", marks=pytest.mark.exhaustive),
    ],
)
def test_each_row_of_a_big_batch_is_looked_up_in_the_previous_one_by_the_unique_index(collected, statistics):
    """With statistics from before the batches, PostgreSQL read the whole previous batch for each row: 15 s."""
    make_batch("another with the same profiles", BIG, queue=False)
    if collected == "before the batches":
        statistics()
    first = make_batch("first", BIG)
    repeat = BatchManager().repeat_batch(first.pk)
    if collected == "now":
        statistics()
    plan = find_changed_rows(repeat, Change.RECOVERED).explain()
    lookups = re.split(r"(?:SubPlan|SUBQUERY) \d+\n", plan)[1:]
    by_pair = {"sqlite": "(profile_id=? AND batch_id=?)", "postgresql": " one_row_per_profile_and_batch "}
    assert lookups
    assert all(by_pair[connection.vendor] in lookup for lookup in lookups), plan
    first.profiles.update(status="failed")
    repeat.profiles.update(status="ok")
    assert compare(repeat).recovered == BIG

"""What is counted in the database for a batch's page."""

from datetime import UTC, datetime, timedelta

import pytest

from batches.batch_manager import BatchManager
from batches.reports import queries
from batches.tests.support.factories import failed, make_batch, ok, profile_ids, record, start_run

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_checks_are_counted_by_minute_and_outcome():
    batch = make_batch(profiles=6)
    run = start_run(batch)
    results = [ok(), failed(), ok(), ok(), failed()]
    record(run, zip(profile_ids(batch)[:5], results, strict=True))
    # The last one waits. One second and the last microsecond of a minute belong to it, the next one does not.
    seconds = [0, 59.999999, 60, 61, 3600]
    for row, second in zip(batch.profiles.order_by("pk")[:5], seconds, strict=True):
        batch.profiles.filter(pk=row.pk).update(checked_at=NOON + timedelta(seconds=second))
    assert queries.count_checks_per_minute(batch) == [
        (NOON, 1, 1),
        (NOON + timedelta(minutes=1), 2, 0),
        (NOON + timedelta(hours=1), 0, 1),
    ]


def test_a_batch_of_which_nothing_is_checked_has_no_minutes():
    batch = make_batch(profiles=2)
    BatchManager().start_batch(batch.pk)
    assert queries.count_checks_per_minute(batch) == []

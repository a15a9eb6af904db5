"""Counts in the database for a batch's page."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from batches.checking.queries import fetch_pending
from batches.models import BatchProfile
from batches.reports import queries, streams
from batches.tests.support.factories import check_batch, failed, make_batch, ok
from batches.tests.support.tables import explain, run_sql, statements_of

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_checks_are_counted_by_minute_and_outcome():
    batch = make_batch(profiles=6)
    assert queries.count_checks_per_minute(batch) == []
    check_batch(batch, ok(), failed(), ok(), ok(), failed())
    # The last one waits. One second and the last microsecond of a minute belong to it, the next one does not.
    seconds = [0, 59.999999, 60, 61, 3600]
    for row, second in zip(batch.profiles.order_by("pk")[:5], seconds, strict=True):
        batch.profiles.filter(pk=row.pk).update(checked_at=NOON + timedelta(seconds=second))
    assert queries.count_checks_per_minute(batch) == [
        (NOON, 1, 1),
        (NOON + timedelta(minutes=1), 2, 0),
        (NOON + timedelta(hours=1), 0, 1),
    ]


BIG = 20_000


@pytest.mark.slow
@pytest.mark.parametrize("collected", ["never", "now"])
def test_the_end_of_a_batch_is_found_without_reading_later_batches(collected, statistics):
    batch, _ = make_batch("it", BIG, queue=False), make_batch("later", BIG, queue=False)
    rows = BatchProfile.objects.of_batch(batch).order_by("pk")
    last = rows.values_list("pk", flat=True).last()
    rows.filter(pk__in=[last - 9, last]).update(status="failed")
    if collected == "now":
        statistics()
    failures = rows.filter(status="failed")
    for page, most in (
        (lambda: fetch_pending(batch, range(256), last - 20, 1000), 20),
        (lambda: list(failures.filter(pk__gt=last - 20)[:100]), 20),
        (lambda: list(failures.reverse()[:1]), 20),
        (lambda: list(failures[:100]), BIG),
        (lambda: list(streams.stream_rows(failures.filter(pk__gt=last - 20))), 20),
    ):
        for sql in statements_of(page):
            assert count_rows_read(sql) <= most


def count_rows_read(sql):
    """The rows that a statement has read and did not return. SQLite says only whether it has read the whole table."""
    if sql.startswith("SET LOCAL "):
        run_sql(sql)
        return 0
    if connection.vendor == "sqlite":
        return run_sql("SELECT COUNT(*) FROM batches_batchprofile")[0][0] if "SCAN batches_" in explain(sql) else 0
    run_sql("SET LOCAL enable_seqscan = off")  # reading a small table once may seem cheaper than by index
    plan = "\n".join(row[0] for row in run_sql(f"EXPLAIN (ANALYZE, COSTS OFF) {sql}"))
    run_sql("SET LOCAL enable_seqscan = on")
    return sum(map(int, re.findall(r"Rows Removed by Filter: (\d+)", plan)))

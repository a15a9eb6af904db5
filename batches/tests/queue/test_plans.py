"""PostgreSQL's plans: no statement of a worker reads a whole large table or batch. None for a part of a batch or list
reads all of it, or others.
"""

import json
import re
from itertools import chain, repeat

import pytest
from django.db import connection
from django.db.models.functions import Now

from batches.batch_manager import BatchManager
from batches.checking import queries
from batches.models import Batch, BatchLog, BatchProfile, ListProfile, Profile, ProfileList, StoryResult, rows_of
from batches.queue.contents import purge_deleted
from batches.queue.hosts import recall_hosts
from batches.queue.loans import are_slots_wanted
from batches.queue.partitions import are_wanted
from batches.queue.resets import begin_reset
from batches.reports.forecast import forecast_queue
from batches.reports.streams import stream_members, stream_rows
from batches.tests.support.factories import claim, failed, make_batch, make_list, ok
from batches.tests.support.tables import run_sql

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.databases("postgresql"),
    pytest.mark.django_db(transaction=True),
]

Status = Batch.Status
PENDING, OK = BatchProfile.Status.PENDING, BatchProfile.Status.OK
LARGE = [model._meta.db_table for model in (Profile, BatchProfile, StoryResult, BatchLog, ListProfile)]
READS_WHOLE = re.compile(rf"Seq Scan on ({'|'.join(LARGE)})\b|Bitmap Index Scan on \w+_keyset")


def multiply(model, times, **expressions):
    """Insert copies of its first row, with these SQL expressions of `n` instead of its values."""
    columns = [field.column for field in model._meta.concrete_fields if not field.primary_key]
    values = ", ".join(f"{expressions[name]} AS {name}" if name in expressions else f"it.{name}" for name in columns)
    run_sql(
        f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) SELECT {values} "
        f"FROM (SELECT * FROM {model._meta.db_table} ORDER BY id LIMIT 1) AS it, generate_series(1, {times}) AS n"
    )


def fill(rows):
    """A batch that is done, one that runs and is half checked, two lists, and stories of a quarter of the profiles."""
    template = make_batch("template", 1, queue=False)
    story = StoryResult(profile=Profile.objects.get(), batch=template, story_id="0", title="A story")
    story.save()
    done, running = make_batch("done", queue=False), make_batch("it", queue=False)
    multiply(Profile, rows, url="'https://' || n || '.example/feed'")
    first = Profile.objects.order_by("-pk").values_list("pk", flat=True)[0] - rows
    row = {"profile_id": f"{first} + n", "partition": "n % 256"}
    multiply(BatchProfile, rows, **row, batch_id=f"'{done.pk}'", status=f"'{OK}'")
    multiply(
        BatchProfile,
        rows,
        **row,
        batch_id=f"'{running.pk}'",
        status=f"CASE WHEN n % 2 = 0 THEN '{OK}' ELSE '{PENDING}' END",
    )
    multiply(StoryResult, rows // 4, profile_id=f"{first} + n", batch_id=f"'{done.pk}'", story_id="n::text")
    for found in (make_list("first", 1), make_list("second")):
        multiply(ListProfile, rows, profile_id=f"{first} + n", list_id=f"'{found.pk}'")
        ProfileList.objects.filter(pk=found.pk).update(total_profiles=rows)
    multiply(BatchLog, rows // 10, batch_id=f"'{done.pk}'")
    counters = {"total_profiles": rows, "completed_profiles": rows // 2, "successful_checks": rows // 2}
    Batch.objects.filter(pk=running.pk).update(**counters)
    return running


def expect_more_rows():
    """Without statistics, PostgreSQL multiplies the pages of a table by this number of rows: a million or more."""
    run_sql(f"UPDATE pg_class SET relpages = 1, reltuples = 1000 WHERE relname = ANY (ARRAY{LARGE})")


def work_on(batch):
    """All statements of a worker that works on a batch."""
    manager = BatchManager()
    assert manager.queue_batch(batch.pk)
    assert manager.ensure_run("worker", 4).wanted == 4
    run, other = claim("worker"), manager.claim_run("other")
    assert other is None
    partitions = set(run.partitions)
    page = queries.fetch_pending(batch, partitions, 0, 2000)
    queries.fetch_pending(batch, partitions, page[-1][0], 2000)
    queries.fetch_pending(batch, {1}, page[-1][0], 2000)
    ids = [profile.profile_id for _, _, profile in page]
    results = [(pk, ok("new") if pk % 3 else failed()) for pk in ids[:500]]
    assert manager.record_results(batch.pk, run.run_token, results)
    assert manager.renew_lease(batch.pk, run.run_token)
    are_wanted(batch)
    recall_hosts()
    assert not are_slots_wanted(run.run_token)
    assert manager.share_run(batch.pk, run.run_token, ["hub.example"], ["own.example"], [1], [2], 1)
    assert not manager.finish_run(batch.pk, run.run_token)
    forecast_queue()
    assert manager.release_run(batch.pk, run.run_token)


@pytest.mark.parametrize("rows", [30_000, pytest.param(1_000_000, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("collected", ["never", "now"])
def test_no_large_table_is_read_whole_while_workers_work(rows, collected, statistics):
    """Without statistics, as after the first import, it sorted all pending rows for each page of them."""
    batch, plans = fill(rows), {}
    statistics() if collected == "now" else expect_more_rows()

    def explain_first(execute, sql, params, many, context):
        """With the settings of its transaction."""
        if re.match("SELECT|INSERT|UPDATE|DELETE", sql):
            plans[sql] = "\n".join(row[0] for row in execute(f"EXPLAIN (COSTS OFF) {sql}", params, many, context))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain_first):
        work_on(batch)
    assert len(plans) > 30
    reading_whole = [f"{sql[:500]}\n{plan}" for sql, plan in plans.items() if READS_WHOLE.search(plan)]
    assert not reading_whole, "\n\n".join(reading_whole)


def read_parts(batch, client):
    """The calls that read the first part of a batch, behind the rows of others, or of a list."""
    rows, (found, later) = BatchProfile.objects.of_batch(batch), ProfileList.objects.order_by("name")
    for page in (
        f"/api/v1/batches/{batch.pk}/profiles/?status=pending",
        f"/api/v1/lists/{found.pk}/profiles/?failing=false",
        f"/api/v1/lists/{later.pk}/profiles/",
        f"/admin/batches/batchprofile/?batch={batch.pk}&status__exact=pending",
        f"/admin/batches/listprofile/?list={found.pk}",
    ):
        yield lambda page=page: client.get(page).content
    yield lambda: next(stream_rows(rows.filter(status=PENDING)))
    for one in (found, later):
        yield lambda one=one: next(stream_members(rows_of(ListProfile.objects.all(), list=one)))
    yield lambda: batch.has_rows
    yield lambda: begin_reset(batch)
    for owner in (batch, later):
        type(owner).objects.filter(pk=owner.pk).update(deleted_at=Now())
        yield lambda: purge_deleted(chain([False], repeat(True)).__next__)


def count_read(plan):
    """The most rows that a step of the plan reads."""
    read = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return max([read * plan["Actual Loops"], *map(count_read, plan.get("Plans", []))])


@pytest.mark.parametrize("rows", [30_000, pytest.param(1_000_000, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("collected", ["never", "now"])
def test_for_a_part_of_a_batch_or_list_neither_all_of_it_nor_others_are_read(rows, collected, statistics, admin_client):
    batch, read = fill(rows), {}
    statistics() if collected == "now" else expect_more_rows()

    def explain_first(execute, sql, params, many, context):
        if sql.startswith("SELECT") and "COUNT(" not in sql:
            found = execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}", params, many, context)
            [[plan]] = [row[0] for row in found]
            read[sql] = count_read(plan["Plan"]), json.dumps(plan["Plan"])
        return execute(sql, params, many, context)

    for call in read_parts(batch, admin_client):
        with connection.execute_wrapper(explain_first):
            call()
    too_many = {sql: found for sql, found in read.items() if found[0] > rows / 2}
    assert len(read) > 15
    assert not too_many, too_many

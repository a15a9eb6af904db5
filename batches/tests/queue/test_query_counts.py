"""The cost of a call: one transaction, and as many statements for 1,000 rows as for 10."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from batches.batch_manager import BatchManager
from batches.models import Batch, StoryResult
from batches.queue import resets, workers
from batches.queue.refusals import Refusal
from batches.tests.conftest import empty_tables
from batches.tests.support.factories import (
    WAYS,
    Status,
    everything,
    failed,
    make_batch,
    ok,
    profile_ids,
    record,
    remember_token,
    restore,
    row_statuses,
    start_run,
    undone,
)
from batches.tests.support.tables import explain

from .test_faults import IN_SEVERAL_TRANSACTIONS, SCENES

pytestmark = pytest.mark.django_db(transaction=True)

FEW, MANY = 10, 1000

WHOLE_BATCHES = {name for name in SCENES if name.startswith(("create_batch", "repeat_batch", "run_list", "queue_due"))}
#: Not one transition: these have several transactions, no lock of the queue, or a batch without rows.
OTHERS = (IN_SEVERAL_TRANSACTIONS - {"claim_run", "ensure_run"}) | {
    "remove_old", "finish_resets", "record_results", "share_run", "note_worker", "change_list", "preview_sync",
    "correct_address", "accept_redirect", "accept_redirects", "find_redirect", "subscribe",
    "change_subscription", "unsubscribe", "delete_webhooks", "send_test_message", "create_feed", "revoke_feed",
    "update_progress",
}  # fmt: skip
#: They look at the rows before they take the lock, since no index has the reasons.
READING_FIRST = {"retry_failed by reason", "retry_failed chosen"}
TRANSITIONS = {name for name in SCENES if name.split()[0] not in OTHERS} - WHOLE_BATCHES


@pytest.fixture(autouse=True)
def _without_heartbeats(monkeypatch):
    """Each heartbeat has its own transaction: see `test_workers.py`."""
    for name in ("note_worker", "note_visit"):
        monkeypatch.setattr(workers, name, lambda worker: None)


def make_world(size):
    """`size` finished batches, `size` waiting ones, and "it" with `size` rows, half of them failed."""
    Batch.objects.bulk_create(Batch(name="done", status=Status.DONE) for _ in range(size))
    Batch.objects.bulk_create(Batch(name="waiting", position=position) for position in range(1, size))
    Batch.objects.create(name="last")
    run = start_run(make_batch("it", size))
    ids = profile_ids(run.batch)
    record(run, [(pk, ok("s", "t")) for pk in ids[::2]] + [(pk, failed()) for pk in ids[1::2]])
    return run.batch


def capture(name, it):
    """The statements of a call."""
    status, prepare, call = SCENES[name]
    manager = BatchManager("ada", "api")
    for change in WAYS[status]:
        assert change(manager, it.pk)
    it.refresh_from_db()
    prepare(it)
    remember_token(it)
    with CaptureQueriesContext(connection) as queries:
        assert not isinstance(call(manager, it), Refusal), name
    return [query["sql"] for query in queries]


def count_statements(size):
    """The number of statements of each call."""
    counts = {}
    with undone():
        it = make_world(size)
        for name in TRANSITIONS | WHOLE_BATCHES:
            with undone():
                counts[name] = len(capture(name, it))
            it.refresh_from_db()
    return counts


@pytest.mark.slow
def test_each_call_needs_as_many_statements_for_a_thousand_as_for_ten(monkeypatch):
    monkeypatch.setattr(resets, "RESET_CHUNK", MANY)  # else it notes that there is more
    few, many = count_statements(FEW), count_statements(MANY)
    assert few == many
    assert max(many[name] for name in TRANSITIONS) <= 35  # at the end of a hold, a claim also releases and starts


@pytest.mark.slow
@pytest.mark.on_both_databases
def test_each_transition_is_one_transaction_that_locks_the_queue_first():
    it = make_world(FEW)
    before = everything()
    for name in TRANSITIONS - READING_FIRST:
        begin, first, *rest, commit = capture(name, it)
        assert begin == {"sqlite": "BEGIN IMMEDIATE", "postgresql": "BEGIN"}[connection.vendor], name
        assert commit == "COMMIT", name
        assert 'FROM "batches_queue"' in first, name
        if connection.vendor == "postgresql":
            assert first.endswith("FOR NO KEY UPDATE"), name
        assert not any(re.match("BEGIN|COMMIT|ROLLBACK|SAVEPOINT", sql) for sql in rest), name
        empty_tables()
        restore(before)
        it.refresh_from_db()


def test_the_last_step_of_a_deletion_locks_the_queue_first_because_it_writes_to_repeats(manager):
    it = make_world(FEW)
    assert manager.repeat_batch(it.pk)
    assert manager.pause_batch(it.pk)
    with CaptureQueriesContext(connection) as captured:
        assert manager.delete_batch(it.pk)
    done = [query["sql"] for query in captured]
    deleted = next(index for index, sql in enumerate(done) if sql.startswith('DELETE FROM "batches_batch" '))
    begin = max(index for index, sql in enumerate(done[:deleted]) if sql.startswith("BEGIN"))
    assert 'FROM "batches_queue"' in done[begin + 1]
    assert any('SET "previous_id" = NULL' in sql for sql in done[begin:deleted])


# Recording


#: The redirect targets of profiles: none, or others.
MOVED_TO = ("", "https://new.example/")


def capture_recording(size):
    run = start_run(make_batch("it", size))
    results = [
        (pk, ok(f"{pk}", "s", moved_to=MOVED_TO[pk % 2]) if pk % 3 else failed()) for pk in profile_ids(run.batch)
    ]
    with CaptureQueriesContext(connection) as captured:
        record(run, results)
    assert BatchManager().pause_batch(run.batch.pk)
    return [query["sql"] for query in captured]


@pytest.mark.slow
def test_recording_is_one_transaction_of_as_many_statements_for_a_thousand_as_for_ten_and_never_touches_the_queue():
    for size, more in ((FEW, 0), (MANY, 1)):  # the few have stories by then, and their IDs are looked up
        begin, fence, *rest, commit = capture_recording(size)
        assert begin.startswith("BEGIN")
        assert fence.startswith('UPDATE "batches_lease" SET "lease_at"')
        # Pending rows, profiles with stories, stories, rows, profiles that answer and that fail, redirects that are
        # there and that are not, counters.
        assert len(rest) == 9 + more
        assert commit == "COMMIT"
        assert not any("batches_queue" in sql or 'UPDATE "batches_batch"' in sql for sql in rest)


BIG = 20_000

#: The indexed columns by which each statement of a recording finds its rows: of these, or none for an insert.
RECORDING_LOOKUPS = {
    'UPDATE "batches_lease" SET "lease_at"': {"run_token", "batch_id"},  # a batch has few leases
    "SELECT wanted.profile_id": {"profile_id, batch_id", "number", "lease_id"},  # the last two of its partitions
    "SELECT profile_id": {"profile_id"},
    "SELECT number": {"profile_id, story_id", "profile_id"},  # of one story a profile, both are the same
    "INSERT INTO batches_storyresult": {"id"},  # whether its profile was read before
    "UPDATE batches_batchprofile": {"id"},
    "UPDATE batches_profile": {"id"},
    "INSERT INTO batches_redirect": {"id"},
    "DELETE FROM batches_redirect": {"profile_id"},
    'UPDATE "batches_lease" SET "successful_checks"': {"run_token"},
}


@pytest.mark.slow
@pytest.mark.parametrize("collected", ["never", "before the batch", "now"])
def test_recording_finds_its_rows_by_index_in_a_big_batch(collected, manager, statistics):
    """With a join and without statistics, both read the whole batch for each result: 13 s for 500 of 20,000."""
    Batch.objects.bulk_create(Batch(name="done", status=Status.DONE) for _ in range(1000))
    other = make_batch("another with the same profiles", BIG, queue=False)
    StoryResult.objects.bulk_create(
        StoryResult(profile_id=pk, story_id=known, is_baseline=True)
        for pk in profile_ids(other)[:250]
        for known in "st"
    )
    if collected == "before the batch":
        statistics()
    run = start_run(make_batch("it", BIG))
    if collected == "now":
        statistics()
    results = [(pk, ok("s", "t", "new", moved_to=MOVED_TO[pk % 2])) for pk in profile_ids(run.batch)[:500]]
    with CaptureQueriesContext(connection) as captured:
        assert manager.record_results(run.batch.pk, run.run_token, results)
    statements = [query["sql"] for query in captured][1:-1]
    for sql, (start, columns) in zip(statements, RECORDING_LOOKUPS.items(), strict=True):
        assert start in sql
        lookups = find_lookups(sql)
        assert bool(lookups) == bool(columns), explain(sql)
        assert set(lookups) <= columns, explain(sql)
    assert row_statuses(run.batch)[:501] == ["ok"] * 500 + ["pending"]


def find_lookups(sql):
    """The columns of each search in an index. Asserts that no table is read whole."""
    # There are at most 256 partitions.
    assert not re.search("SCAN (?!json_each|batches_partition)|Seq Scan on (?!batches_partition)", explain(sql)), (
        f"{sql[:300]}\n{explain(sql)}"
    )
    plan = re.sub(r" AND \(ROW.*", "", explain(sql).replace("rowid", "id"))  # the other end of the same range
    plan = re.sub(r"ROW\((\w+), (\w+)\) >=", r"\1 = \2 =", plan)
    searches = re.findall("(?:SEARCH|Index Cond:) .*", plan)
    return [", ".join(re.findall(r'(\w+)"?\)?(?:::text)? ?[=<>]', search)) for search in searches]


@pytest.mark.slow
def test_a_claim_does_not_read_the_finished_batches(manager, statistics):
    Batch.objects.bulk_create(Batch(name="done", status=Status.DONE) for _ in range(5000))
    make_batch("waiting")
    statistics()
    with CaptureQueriesContext(connection) as captured:
        assert manager.claim_run("worker")
        assert manager.claim_run("worker") is None
    selects = [query["sql"] for query in captured if re.match('SELECT .* FROM "batches_batch"', query["sql"])]
    assert len(selects) >= 4
    for sql in selects:
        assert set(find_lookups(sql)) & {"position", "status", "id"}, explain(sql)

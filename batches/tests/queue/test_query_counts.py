"""The cost of a call: one transaction, and as many statements for 1,000 rows as for 10."""

import re

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from batches.batch_manager import BatchManager
from batches.models import Batch, Profile
from batches.tests.support.factories import Status, claim, failed, make_batch, ok, profile_ids, row_statuses
from batches.tests.support.tables import explain

pytestmark = pytest.mark.django_db(transaction=True)

FEW, MANY = 10, 1000


def make_world(size):
    """`size` finished batches, `size` waiting ones, and "it" with `size` rows, half of them failed."""
    Batch.objects.bulk_create(Batch(name="done", status=Status.DONE) for _ in range(size))
    Batch.objects.bulk_create(Batch(name="waiting", position=position) for position in range(1, size + 1))
    it = make_batch("it", size)
    run = claim_it(it)
    ids = profile_ids(it)
    results = [(pk, ok("s", "t")) for pk in ids[::2]] + [(pk, failed()) for pk in ids[1::2]]
    assert BatchManager().record_results(it.pk, run.run_token, results)
    return it


def claim_it(it):
    assert BatchManager().start_batch(it.pk)
    return claim()


def queued(manager, it):
    assert manager.pause_batch(it.pk)
    assert manager.queue_batch(it.pk)
    assert manager.move_batch(it.pk, 5)


def paused(manager, it):
    assert manager.pause_batch(it.pk)


def done(manager, it):
    assert manager.complete_batch(it.pk)


def running(manager, it):
    it.refresh_from_db()


def with_gap(manager, it):
    queued(manager, it)
    Batch.objects.filter(pk=it.pk).delete()


def expired(manager, it):
    Batch.objects.filter(pk=it.pk).update(lease_at=None)


def poisonous(manager, it):
    Batch.objects.filter(pk=it.pk).update(lease_at=None, takeovers=3)


TRANSITIONS = {
    "queue a queued one": (queued, lambda manager, it: manager.queue_batch(it.pk)),
    "queue a done one": (done, lambda manager, it: manager.queue_batch(it.pk)),
    "start a queued one": (queued, lambda manager, it: manager.start_batch(it.pk)),
    "start a paused one": (paused, lambda manager, it: manager.start_batch(it.pk)),
    "pause a queued one": (queued, lambda manager, it: manager.pause_batch(it.pk)),
    "pause the running one": (running, lambda manager, it: manager.pause_batch(it.pk)),
    "complete": (running, lambda manager, it: manager.complete_batch(it.pk)),
    "handle an error": (queued, lambda manager, it: manager.handle_error(it.pk, "It broke.")),
    "promote": (paused, lambda manager, it: manager.promote_next_batch()),
    "move up": (queued, lambda manager, it: manager.move_batch(it.pk, 1)),
    "move down": (queued, lambda manager, it: manager.move_batch(it.pk, MANY)),
    "set the priority": (queued, lambda manager, it: manager.set_priority(it.pk, 7)),
    "retry": (done, lambda manager, it: manager.retry_failed(it.pk)),
    "reorder": (with_gap, lambda manager, it: manager.reorder_queue()),
    "hold": (running, lambda manager, it: manager.hold_queue("why")),
    "insert": (running, lambda manager, it: Batch.objects.create(name="plain", priority=1)),
    "claim": (paused, lambda manager, it: manager.claim_run("worker")),
    "claim an expired run": (expired, lambda manager, it: manager.claim_run("worker")),
    "claim a run with too many takeovers": (poisonous, lambda manager, it: manager.claim_run("worker")),
    "look for work": (running, lambda manager, it: manager.claim_run("worker") is None),
    "release": (running, lambda manager, it: manager.release_run(it.pk, it.run_token)),
    "finish": (running, lambda manager, it: manager.finish_run(it.pk, it.run_token)),
}

WHOLE_BATCHES = {
    "create": (running, lambda manager, it: make_batch("new", it.total_profiles, priority=1)),
    "create from a queryset": (running, lambda manager, it: manager.create_batch("new", Profile.objects.all())),
    "repeat": (running, lambda manager, it: manager.repeat_batch(it.pk)),
}


def captured(name, it):
    """The statements of a call from the tables above."""
    prepare, call = (TRANSITIONS | WHOLE_BATCHES)[name]
    manager = BatchManager("ada", "api")
    prepare(manager, it)
    it = Batch.objects.filter(pk=it.pk).first() or it
    with CaptureQueriesContext(connection) as queries:
        assert call(manager, it), name
    return [query["sql"] for query in queries]


def count_statements(size):
    """The number of statements of each call."""
    counts = {}
    with transaction.atomic():
        it = make_world(size)
        for name in TRANSITIONS | WHOLE_BATCHES:
            with transaction.atomic():
                counts[name] = len(captured(name, it))
                transaction.set_rollback(True)
        transaction.set_rollback(True)
    return counts


@pytest.mark.slow
def test_each_call_needs_as_many_statements_for_a_thousand_as_for_ten():
    few, many = count_statements(FEW), count_statements(MANY)
    assert few == many
    assert max(many.values()) <= 20


def test_each_transition_is_one_transaction_that_locks_the_queue_first():
    for name in TRANSITIONS:
        begin, first, *rest, commit = captured(name, make_world(FEW))
        assert begin == {"sqlite": "BEGIN IMMEDIATE", "postgresql": "BEGIN"}[connection.vendor], name
        assert commit == "COMMIT", name
        assert 'FROM "batches_queue"' in first, name
        if connection.vendor == "postgresql":
            assert first.endswith("FOR NO KEY UPDATE"), name
        assert not any(re.match("BEGIN|COMMIT|ROLLBACK|SAVEPOINT", sql) for sql in rest), name
        Batch.objects.all().delete()
        BatchManager().release_queue()


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


def record_statements(size):
    with transaction.atomic():
        run = claim_it(make_batch("it", size))
        results = [(pk, ok(f"{pk}", "s") if pk % 3 else failed()) for pk in profile_ids(run.batch)]
        with CaptureQueriesContext(connection) as captured:
            assert BatchManager().record_results(run.batch.pk, run.run_token, results)
        transaction.set_rollback(True)
    return [query["sql"] for query in captured if not re.match("SAVEPOINT|RELEASE", query["sql"])]


@pytest.mark.slow
def test_recording_needs_as_many_statements_for_a_thousand_results_as_for_ten():
    few, many = record_statements(FEW), record_statements(MANY)
    assert len(few) == len(many) == 6  # fence, pending rows, stories, rows, profiles, counters


def test_recording_is_one_transaction_and_never_touches_the_queue(manager):
    run = claim_it(make_batch("it", FEW))
    results = [(pk, ok("s")) for pk in profile_ids(run.batch)]
    with CaptureQueriesContext(connection) as captured:
        assert manager.record_results(run.batch.pk, run.run_token, results)
    begin, fence, *rest, commit = [query["sql"] for query in captured]
    assert begin.startswith("BEGIN")
    assert fence.startswith('UPDATE "batches_batch" SET "lease_at"')
    assert commit == "COMMIT"
    assert not any("batches_queue" in sql for sql in rest)


BIG = 20_000

#: The indexed columns by which each statement of a recording finds its rows: one of these, or none for an insert.
RECORDING_LOOKUPS = {
    'UPDATE "batches_batch" SET "lease_at"': {"position", "status"},  # either finds the running batch
    "SELECT wanted.profile_id": {"profile_id, batch_id"},
    "INSERT INTO batches_storyresult": set(),
    "UPDATE batches_batchprofile": {"id"},
    "UPDATE batches_profile": {"id"},
    'UPDATE "batches_batch" SET "completed_profiles"': {"id"},
}


@pytest.mark.slow
@pytest.mark.parametrize("collected", ["never", "before the batch", "now"])
def test_recording_finds_its_rows_by_index_in_a_big_batch(collected, manager, statistics):
    """With a join and without statistics, both read the whole batch for each result: 13 s for 500 of 20,000."""
    Batch.objects.bulk_create(Batch(name="done", status=Status.DONE) for _ in range(1000))
    make_batch("another with the same profiles", BIG, queue=False)
    if collected == "before the batch":
        statistics()
    run = claim_it(make_batch("it", BIG))
    if collected == "now":
        statistics()
    results = [(pk, ok("s", "t")) for pk in profile_ids(run.batch)[:500]]
    with CaptureQueriesContext(connection) as captured:
        assert manager.record_results(run.batch.pk, run.run_token, results)
    statements = [query["sql"] for query in captured][1:-1]
    for sql, (start, columns) in zip(statements, RECORDING_LOOKUPS.items(), strict=True):
        assert sql.startswith(start)
        lookups = find_lookups(sql)
        assert len(lookups) == bool(columns), explain(sql)
        assert set(lookups) <= columns, explain(sql)
    assert row_statuses(run.batch)[:501] == ["ok"] * 500 + ["pending"]


def find_lookups(sql):
    """The columns of each search in an index. Asserts that no table is read whole."""
    assert not re.search("SCAN (?!json_each)|Seq Scan", explain(sql)), f"{sql[:300]}\n{explain(sql)}"
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

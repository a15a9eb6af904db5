"""The tasks of Celery, called as functions: which tasks they send, and that late and duplicate tasks change nothing."""

import asyncio
import signal
from datetime import timedelta

import pytest
from celery.exceptions import OperationalError as BrokerError
from django.db import OperationalError

from batches.batch_manager import BatchManager
from batches.checking import celery as tasks
from batches.checking import worker
from batches.checking.celery_settings import celery_settings
from batches.checking.worker import Worker
from batches.conf import Config, get_config
from batches.models import Batch, Lease, Partition, Queue
from batches.tests.support.checkers import OK
from batches.tests.support.factories import (
    age_leases,
    assert_consistent,
    claim,
    make_batch,
    make_list,
    row_statuses,
    unchanged,
    values_of,
)
from batches.tests.support.processes import wait_until
from batches.tests.support.threads import in_thread

from .conftest import of_many_hosts

pytestmark = pytest.mark.django_db(transaction=True)

Status = Batch.Status
NAMES = ["promote", "check", "tend"]


@pytest.fixture
def orders(monkeypatch, configure):
    """The arguments of the checks that were ordered. On a busy machine, they run late."""
    configure(processes=4)
    monkeypatch.setattr(tasks, "LATE", timedelta(minutes=5))
    orders = []
    monkeypatch.setattr(tasks.check, "apply_async", lambda arguments, retry: orders.append(arguments))
    return orders


@pytest.fixture(autouse=True)
def _queue(transactional_db):
    with Queue.objects.locked():
        pass


def run_ordered(orders):
    """Run the ordered checks, like a broker."""
    while orders:
        tasks.check(*orders.pop(0))


def now():
    return tasks.database_time().isoformat()


# Orders


def test_a_task_that_begins_while_celery_shuts_down_checks_nothing(orders):
    """Its process was idle when the others got their signal."""
    batch = of_many_hosts(3)
    tasks.promote()
    tasks.stop_tasks()
    try:
        run_ordered(orders)
    finally:
        tasks.SHUTTING_DOWN[0] = False
    assert set(row_statuses(batch)) == {"pending"}
    assert not Lease.objects.exists()


def test_the_next_batch_is_promoted_and_as_many_checks_ordered_as_it_has_partitions(orders):
    batch = of_many_hosts(3)
    tasks.promote()
    assert values_of(batch.pk)["status"] == Status.RUNNING
    assert [processes for processes, _ in orders] == [3, 3, 3]


def test_at_most_the_allowed_number_of_tasks_is_ordered(orders):
    of_many_hosts(50)
    tasks.promote()
    assert [processes for processes, _ in orders] == [4] * 4


def test_running_workers_count_and_leave_a_share_to_new_ones(orders):
    of_many_hosts(50)
    claim()  # leases all of them: the next one gets some of these
    tasks.promote()
    assert [processes for processes, _ in orders] == [2]
    Partition.objects.filter(number__lt=128).update(lease=None)
    tasks.promote()
    assert [processes for processes, _ in orders[1:]] == [4, 4, 4]


def test_the_partitions_of_a_worker_without_a_heartbeat_count_as_free(orders):
    batch = of_many_hosts(50)
    claim()
    age_leases(batch)
    tasks.promote()
    assert len(orders) == 4


def test_nothing_is_ordered_while_the_queue_is_held(orders):
    assert BatchManager().hold_queue("Repairs")
    of_many_hosts(3)
    tasks.promote()
    assert orders == []
    assert not Batch.objects.running().exists()


def test_a_paused_run_orders_nothing_more_and_its_earlier_orders_change_nothing(orders, script):
    checked, batch = script(), of_many_hosts(3)
    tasks.promote()
    assert BatchManager().pause_batch(batch.pk)
    paused = values_of(batch.pk)
    run_ordered(orders)
    tasks.promote()
    assert (orders, checked, values_of(batch.pk)) == ([], [], paused)
    assert not Lease.objects.exists()


def test_a_run_is_finished_if_its_last_worker_died_before_finishing_it(orders, script):
    batch = make_batch("it", 1, checker="scripted")
    run = claim()
    BatchManager().record_results(batch.pk, run.run_token, [(batch.profiles.get().profile_id, OK)])
    age_leases(batch)
    tasks.promote()
    run_ordered(orders)
    assert values_of(batch.pk)["status"] == Status.DONE


def test_a_broker_that_does_not_answer_is_logged_in_a_line(orders, monkeypatch, caplog):
    of_many_hosts(3)

    def fail(*_, **__):
        raise BrokerError("Connection refused")

    monkeypatch.setattr(tasks.check, "apply_async", fail)
    tasks.promote()
    assert caplog.messages == ["The broker does not answer: Connection refused"]


@pytest.mark.parametrize(
    "task", [lambda: tasks.promote(), lambda: tasks.check(1, now()), lambda: tasks.tend()], ids=NAMES
)
def test_a_database_that_does_not_answer_is_logged_in_a_line(task, configure, monkeypatch, caplog):
    configure(task_seconds=0.01)
    monkeypatch.setattr(worker, "FIRST_WAIT", 0.01)

    def fail(*_, **__):
        raise OperationalError("connection refused")

    for call in ("ensure_run", "claim_run", "purge_deleted"):
        monkeypatch.setattr(BatchManager, call, fail)
    task()
    assert caplog.messages[-1].endswith("connection refused")
    assert "Traceback" not in caplog.text


# Checks


def test_checks_share_a_batch_finish_it_and_continue_with_the_next(orders, script):
    checked = script()
    first, second = of_many_hosts(9, "first"), of_many_hosts(2, "second")
    tasks.promote()
    run_ordered(orders)
    assert [values_of(batch.pk)["status"] for batch in (first, second)] == [Status.DONE] * 2
    assert len(checked) == 11
    assert_consistent()


def test_a_late_order_changes_nothing(script):
    checked = script()
    of_many_hosts(3)
    with unchanged():
        tasks.check(1, (tasks.database_time() - 2 * tasks.LATE).isoformat())
        tasks.check(1, (tasks.database_time() + timedelta(hours=1)).isoformat())  # a clock was set back
    assert checked == []


def test_an_order_that_comes_twice_checks_nothing_twice(orders, script):
    checked = script()
    batch = of_many_hosts(5)
    tasks.promote()
    run_ordered(orders * 2)
    assert sorted(checked) == sorted({f"https://{number}.example/" for number in range(5)})
    assert row_statuses(batch) == ["ok"] * 5
    assert_consistent()


def test_after_its_time_a_task_starts_no_check_and_lets_running_ones_finish(script, configure, monkeypatch):
    configure(task_seconds=3600.0, concurrency=1, grace_seconds=0.01)
    workers = []
    monkeypatch.setattr(
        tasks, "Worker", lambda *args, **options: workers.append(Worker(*args, **options)) or workers[0]
    )
    batch = of_many_hosts(5)

    async def outlast_the_others(profile):
        workers[0]._end()
        await asyncio.to_thread(wait_until, lambda: in_thread(Partition.objects.filter(lease=None).count).result() == 4)

    checked = script(outlast_the_others)
    tasks.check(1, now())
    assert len(checked) == 1
    assert sorted(row_statuses(batch)) == ["ok"] + ["pending"] * 4
    assert not batch.leases.exists()
    script()
    monkeypatch.setattr(tasks, "Worker", Worker)
    tasks.check(1, now())
    assert row_statuses(batch) == ["ok"] * 5
    assert_consistent()
    assert [line.action for line in batch.logs.order_by("pk")] == ["create_batch", "promote_next_batch", "finish_run"]


def test_signals_are_handled_as_before_after_a_task(configure):
    before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        tasks.check(1, now())
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == [signal.SIG_IGN] * 2
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


@pytest.mark.parametrize("task", [lambda: tasks.check(1, now()), lambda: tasks.tend()], ids=NAMES[1:])
def test_a_pool_without_processes_is_refused_with_the_option_to_type(task, configure):
    with pytest.raises(Exception, match="Start the worker with: --pool prefork"):
        in_thread(task).result(60)


# Tending


def test_tending_queues_due_lists_and_tidies_up(configure):
    due = make_list("due", 2)
    BatchManager().change_list(due.pk, schedule="0 * * * *")
    type(due).objects.filter(pk=due.pk).update(next_run_at=tasks.database_time())
    deleted = make_batch("gone", 2)
    assert BatchManager().delete_batch(deleted.pk)
    tasks.tend()
    assert [batch.list_id for batch in Batch.objects.queued()] == [due.pk]
    assert not Batch.everything.filter(pk=deleted.pk).exists()


# Settings


def test_redelivery_and_the_limit_of_a_task_leave_every_check_its_time():
    config = Config(task_seconds=30, check_timeout=120, grace_seconds=10)
    longest = celery_settings(config)["broker_transport_options"]["visibility_timeout"]
    assert longest >= 30 + 120 + 10
    assert tasks.check.time_limit >= get_config().task_seconds + get_config().check_timeout

"""The heartbeats of workers: each writes its own row, rarely, and waits for no lock."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from batches.batch_manager import BatchManager
from batches.models import Queue, Worker
from batches.queue.workers import INTERVAL, KEPT, end_worker, note_worker, start_worker
from batches.reports.workers import list_workers
from batches.tests.support.factories import age_workers
from batches.tests.support.processes import WAIT_SECONDS, wait_until
from batches.tests.support.threads import in_thread

pytestmark = pytest.mark.django_db


def writes(call, *arguments):
    """How many rows a call has written."""
    with CaptureQueriesContext(connection) as captured:
        call(*arguments)
    return sum(query["sql"].startswith(("INSERT", "UPDATE")) for query in captured)


def names():
    return [(worker.name, worker.alive) for worker in list_workers(10)[0]]


def test_a_heartbeat_is_written_at_most_once_in_a_few_seconds(settings):
    assert [writes(note_worker, "it"), writes(note_worker, "it")] == [1, 0]
    age_workers(timedelta(seconds=INTERVAL + 1))
    assert writes(note_worker, "it") == 1
    settings.BATCHES = {"LEASE_SECONDS": 3}
    age_workers(timedelta(seconds=2))
    assert writes(note_worker, "it") == 1
    age_workers(-timedelta(days=1))  # the clock was set back
    assert writes(note_worker, "it") == 1


def test_a_worker_that_ends_in_order_is_gone_and_not_missed_but_its_last_heartbeat_stays():
    start_worker("it")
    end_worker("it")
    assert (names(), Worker.objects.alive().exists()) == ([], False)
    start_worker("other")
    assert names() == [("other", True)]
    end_worker("other")
    age_workers(timedelta(hours=1))
    assert names() == []
    assert Worker.objects.last_seen() is not None
    note_worker("it")
    assert names() == [("it", True)]


def test_a_short_lived_process_represents_others_until_the_next_is_due():
    BatchManager().ensure_run("visitor", limit=1)
    assert (names(), Worker.objects.alive().exists()) == ([("visitor", True)], True)
    start_worker("it")
    assert names() == [("it", True)]
    end_worker("it")
    Worker.objects.filter(name="visitor").update(ended_at=Now())
    assert (names(), Worker.objects.alive().exists()) == ([], False)


def test_a_worker_that_starts_has_a_new_start_and_forgets_old_workers():
    for name in ("it", "lost", "ended", "of today"):
        start_worker(name)
    end_worker("ended")
    Worker.objects.exclude(name="of today").update(
        started_at=F("started_at") - KEPT, seen_at=Now() - KEPT - timedelta(seconds=1)
    )
    before = Worker.objects.get(name="it").started_at
    note_worker("it")
    assert Worker.objects.get(name="it").started_at == before
    start_worker("it")
    assert Worker.objects.get(name="it").started_at > before
    assert set(Worker.objects.values_list("name", flat=True)) == {"it", "of today"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.databases("postgresql")
def test_a_worker_that_waits_for_the_queue_has_sent_its_heartbeat():
    with Queue.objects.locked():
        claim = in_thread(lambda: BatchManager().claim_run("it"))
        wait_until(Worker.objects.filter(name="it").exists)
        assert not claim.done()
    assert claim.result(WAIT_SECONDS) is None


def test_a_thousand_workers_are_read_in_a_constant_number_of_queries(django_assert_num_queries):
    for number in range(3):
        note_worker(f"worker {number}")
    with django_assert_num_queries(2):
        assert list_workers(10)[1] == 3
    with django_assert_num_queries(3):
        workers, total = list_workers(2)
    assert (len(workers), total) == (2, 3)

"""Two calls at the same time on PostgreSQL: the first one stops before each of its statements, one after the other.

There it waits until the second has ended, or waits for a lock of the first. The outcome must be that of one call after
the other. On SQLite, there is nothing beside a transaction that writes.
"""

from concurrent.futures import wait
from itertools import count
from threading import Event
from types import SimpleNamespace

import pytest
from django.db import connection
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import Batch, ProfileList, Webhook
from batches.queue.refusals import Refusal
from batches.tests.conftest import empty_tables
from batches.tests.support.factories import (
    age_leases,
    assert_consistent,
    everything,
    failed,
    make_batch,
    make_list,
    ok,
    profile_ids,
    propose_redirect,
    restore,
    run_list,
    start_run,
    subscribe,
    urls,
)
from batches.tests.support.tables import mask_random, run_sql
from batches.tests.support.threads import TIMEOUT, in_thread

NEW = "https://example.org/new"
#: Columns that differ from run to run.
RANDOM = {"id", "run_seconds"}

CALLS = {
    "remove": lambda it: BatchManager().remove_profiles(it.list, urls(1)),
    "import": lambda it: BatchManager().sync_list(it.list, [*urls(1), NEW], True),
    "correct": lambda it: BatchManager().correct_address(it.list, urls(1)[0], NEW),
    "correct otherwise": lambda it: BatchManager().correct_address(it.list, urls(1)[0], f"{NEW}er"),
    "reschedule": lambda it: BatchManager().change_list(it.list, schedule="0 0 1 2 *"),
    "delete": lambda it: BatchManager().delete_list(it.list),
    "queue": lambda it: BatchManager().queue_due_lists(),
    "share": lambda it: BatchManager().share_run(*it.run, checked=it.partitions),
    "release": lambda it: BatchManager().release_run(*it.run, checked=it.partitions),
    "merge": lambda it: BatchManager().accept_redirect(it.redirect),
    # It writes the profiles in another order than `merge` locks them: those with the first outcome come first.
    "record": lambda it: BatchManager().record_results(
        *it.run, [(it.profiles[1], ok("old")), (it.profiles[0], failed())]
    ),
    "pause": lambda it: BatchManager().pause_batch(it.run[0]),
    "fail": lambda it: BatchManager().handle_error(it.run[0], "It broke."),
    "interrupt": lambda it: BatchManager().start_batch(it.urgent, preempt=True),
    "take over": lambda it: BatchManager().claim_run("another"),
    "insert": lambda it: Batch.objects.create(name="plain", priority=1),
    "repair": lambda it: BatchManager().repair_batch(it.run[0]),
    "forget": lambda it: BatchManager().forget_profile(it.profiles[0]),
    "subscribe": lambda it: BatchManager().subscribe(None, it.webhook.url, ["held"], channel="webhook"),
    "subscribe to the list": lambda it: BatchManager().subscribe(it.list, "ada@example.org", ["done"]),
    "change subscription": lambda it: BatchManager().change_subscription(it.subscription, is_active=False),
    "unsubscribe": lambda it: BatchManager().unsubscribe(it.subscription),
    "revoke feed": lambda it: BatchManager().revoke_feed(it.feed),
    "subscribe somebody": lambda it: BatchManager().subscribe(None, "ada@example.org", ["held"]),
    "rename": lambda it: BatchManager().change_list(it.list, name="new"),
    "rename another": lambda it: BatchManager().change_list(it.other, name="new"),
    "complete": lambda it: BatchManager().complete_batch(it.run[0]),
    "repeat": lambda it: BatchManager().repeat_batch(it.done),
    "delete the source": lambda it: BatchManager().delete_batch(it.done),
    "delete webhook": lambda it: BatchManager().delete_webhooks([it.webhook.pk]),
}


def prepare():
    """A list that is due, with a webhook and its delivery; a redirect from its first profile to its second, which a
    run checks. The heartbeats of its worker have stopped.
    """
    webhook = Webhook.objects.create(url="https://example.org/hook")
    found = make_list("people", 3)
    other = make_list("others", 3)
    subscribe(found, webhook.url, channel="webhook")
    done = run_list(found, ok("old"))
    assert BatchManager().change_list(found.pk, schedule="0 0 1 1 *")
    ProfileList.objects.filter(pk=found.pk).update(next_run_at=timezone.now())
    run = start_run(make_batch("it", 3))
    assert age_leases(run.batch)
    return SimpleNamespace(
        list=found.pk,
        other=other.pk,
        done=done.pk,
        urgent=make_batch("urgent").pk,
        webhook=webhook,
        subscription=subscribe(None, "eve@example.org", topics=["held"]).pk,
        feed=BatchManager().create_feed(found.pk, "a feed").feed.pk,
        redirect=propose_redirect(*urls(2)).pk,
        profiles=profile_ids(run.batch),
        run=(run.batch.pk, run.run_token),
        partitions=run.partitions,
    )


class Stop:
    """Stops a call before one of its statements, counted from 1."""

    def __init__(self, step):
        self.step, self.steps = step, count(1)
        self.is_there, self.may_go_on = Event(), Event()

    def start(self, call):
        """Start the call in a thread, and return when it has stopped, or has ended before."""
        future = in_thread(lambda: self._run(call))
        future.add_done_callback(lambda _: self.is_there.set())
        assert self.is_there.wait(TIMEOUT)
        return future

    def _run(self, call):
        with connection.execute_wrapper(self._execute):
            return call()

    def _execute(self, execute, sql, *arguments):
        if not sql.startswith(("SAVEPOINT", "RELEASE")) and next(self.steps) == self.step:
            self.is_there.set()
            assert self.may_go_on.wait(TIMEOUT)
        return execute(sql, *arguments)


def outcome(*answers):
    """The answers, and all rows without what differs from run to run. Of the times, those of schedules are left."""
    rows = {
        name: sorted(
            str(
                [
                    value if column == "next_run_at" else mask_random(column, value)
                    for column, value in row.items()
                    if column not in RANDOM
                ]
            )
            for row in rows
        )
        for name, rows in everything().items()
    }
    return [answer.code if isinstance(answer, Refusal) else type(answer) for answer in answers], rows


@pytest.mark.slow
@pytest.mark.databases("postgresql")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("import", "forget"),
        ("remove", "forget"),
        ("record", "forget"),
        ("forget", "record"),
        ("forget", "forget"),
        ("forget", "interrupt"),
        ("remove", "correct"),
        ("correct", "correct otherwise"),
        ("merge", "correct"),
        ("release", "share"),
        ("merge", "record"),
        ("record", "merge"),
        ("record", "repair"),
        ("record", "record"),
        ("record", "pause"),
        ("record", "complete"),
        ("record", "fail"),
        ("record", "interrupt"),
        ("record", "take over"),
        ("pause", "record"),
        ("interrupt", "record"),
        ("take over", "record"),
        ("take over", "take over"),
        ("insert", "insert"),
        ("queue", "reschedule"),
        ("queue", "delete"),
        ("delete", "delete webhook"),
        ("subscribe", "delete webhook"),
        ("complete", "delete webhook"),
        ("subscribe to the list", "delete"),
        ("change subscription", "unsubscribe"),
        ("revoke feed", "revoke feed"),
        ("subscribe somebody", "subscribe somebody"),
        ("rename", "rename another"),
        ("repeat", "delete the source"),
    ],
)
def test_of_two_calls_at_the_same_time_one_comes_first(one, other):
    it = prepare()
    before = everything()
    expected = [outcome(CALLS[one](it), CALLS[other](it))]
    empty_tables()
    restore(before)
    expected.append(outcome(*reversed([CALLS[other](it), CALLS[one](it)])))
    for step in count(1):
        empty_tables()
        restore(before)
        stop = Stop(step)
        first = stop.start(lambda: CALLS[one](it))
        if first.done():
            break
        second = in_thread(lambda: CALLS[other](it))
        while not (wait([second], 0.002).done or run_sql("SELECT 1 FROM pg_locks WHERE NOT granted")):
            pass
        stop.may_go_on.set()
        found = outcome(first.result(TIMEOUT), second.result(TIMEOUT))
        if "forget" in {one, other}:  # several transactions
            assert_consistent()
        else:
            assert found in expected, f"stopped before statement {step}"
    assert step > 3

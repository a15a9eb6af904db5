"""Every call of the manager with a fault at its first statement, at its second, … and at each COMMIT."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.checking.pruning import find_logs
from batches.conf import get_config
from batches.models import Batch, ListFeed, ListProfile, Partition, Profile, ProfileList, Queue, Webhook
from batches.queue import editions
from batches.queue.values import fingerprint_of
from batches.tests.conftest import empty_tables
from batches.tests.queue.test_transitions import ALLOWED, CALLS, OTHERS
from batches.tests.support.factories import (
    age_leases,
    assert_sound,
    everything,
    failed,
    half_checked,
    make_list,
    ok,
    profile_ids,
    propose_redirect,
    remember_token,
    restore,
    subscribe,
    urls,
)

RUNNING, PAUSED = "running", "paused"
#: Of the failed row.
REASON = "It answers with 500."
NEW = "https://example.org/new"
#: A wanted one, and a spare one.
DOMAINS = ["hub.example"], ["own.example"]


def expire_lease(it: Batch, **changes: Any) -> None:
    assert age_leases(it)
    Batch.objects.filter(pk=it.pk).update(**{"takeovers": 0} | changes)


def lose_runs(it: Batch) -> None:
    expire_lease(it, takeovers=get_config().max_takeovers)


def release_run(it: Batch) -> None:
    remember_token(it)
    assert BatchManager().release_run(it.pk, it.token)


def check_all(it: Batch) -> None:
    remember_token(it)
    assert BatchManager().record_results(it.pk, it.token, [(profile_id, ok()) for profile_id in profile_ids(it)])


def remove_rows(it: Batch) -> None:
    it.profiles.all().delete()


def mark_deleted(it: Batch) -> None:
    Batch.objects.filter(pk=it.pk).update(deleted_at=Now())


def begin_reset(it: Batch) -> None:
    Batch.objects.filter(pk=it.pk).update(
        reset_after=0, completed_profiles=F("completed_profiles") - F("failed_checks"), failed_checks=0
    )


def damage_counters(it: Batch) -> None:
    Batch.objects.filter(pk=it.pk).update(completed_profiles=F("total_profiles"), failed_checks=0)


def open_gap(it: Batch) -> None:
    Batch.objects.filter(name="last").update(position=F("position") + 9)


def hold_queue(it: Batch) -> None:
    assert BatchManager().hold_queue()


def stop_it(it: Batch) -> None:
    assert BatchManager().hold_queue(stop_running=True)


def let_the_hold_end(it: Batch) -> None:
    stop_it(it)
    Queue.objects.update(held_until=timezone.now() - timedelta(seconds=1))


def lose_answers(it: Batch) -> None:
    """Its failed row has had no answer."""
    it.profiles.update(http_status=None)


def report_outage(manager: BatchManager, it: Any) -> Any:
    return manager.report_outage(it.pk, it.token, "Offline.", timezone.now() - timedelta(hours=1))


def be_offline(it: Batch) -> None:
    hold_queue(it)
    Queue.objects.update(outage_since=Now())


def show_move(it: Any) -> None:
    """To the front."""
    distance = 1 - it.position
    it.shown_move = distance, fingerprint_of(Batch.objects.passed_by(it, distance).values_list("pk", flat=True))


def give_list(it: Batch) -> None:
    """Let it be a run of a list of five profiles."""
    Batch.objects.filter(pk=it.pk).update(list=make_list("its list", 5))
    it.refresh_from_db()


def give_subscription(it: Any) -> None:
    """Subscribe somebody to its list."""
    give_list(it)
    it.subscription = subscribe(it.list).pk


def give_webhook(it: Any) -> None:
    """Subscribe a webhook to its list."""
    give_list(it)
    it.webhook = Webhook.objects.create(url="https://example.org/hook")
    subscribe(it.list, it.webhook.url, channel="webhook")


def leave_edit(it: Batch) -> None:
    """Let an edit of its list be over, of which a row is left, and let another list be deleted."""
    give_list(it)
    editor = {"editor": uuid4(), "edit_until": Now()}
    ProfileList.objects.filter(pk=it.list_id).update(edition=1, total_profiles=4, **editor)
    ListProfile.everything.filter(pk=it.list.profiles.earliest("pk").pk).update(last_edition=0)
    ProfileList.objects.filter(pk=make_list("deleted", 2).pk).update(deleted_at=Now())


def publish(it: Batch) -> None:
    give_list(it)
    assert BatchManager().create_feed(it.list_id, "a feed")


def free_partitions(it: Batch) -> None:
    """Its worker has checked one of three partitions, and nobody has the others."""
    lease = it.leases.get()
    it.partitions.bulk_create(Partition(batch=it, number=number, lease=lease) for number in (0, 255))
    it.partitions.filter(number__in=[1, 255]).update(lease=None)


def see_redirect(it: Any) -> None:
    """Let an address of its list redirect for days."""
    give_list(it)
    it.redirect = propose_redirect(urls(1)[0], NEW)


def make_due(it: Batch) -> None:
    """Let its list be due, and another one of another priority."""
    give_list(it)
    due = {"schedule": "0 * * * *", "next_run_at": timezone.now()}
    ProfileList.objects.filter(pk=it.list_id).update(**due)
    ProfileList.objects.filter(pk=make_list("urgent", 2, priority=7).pk).update(**due)


def propose_merger(it: Any) -> None:
    """One of its profiles redirects to another one."""
    give_list(it)
    it.redirect = propose_redirect(urls(1)[0], urls(2)[1])


def choose_another(it: Any) -> None:
    it.other = Batch.objects.get(name="last")


def interrupt_it(it: Any) -> None:
    choose_another(it)
    assert BatchManager().start_batch(it.other.pk, preempt=True)


def keep(it: Batch) -> None:
    """Nothing happens to it first."""


def record_all(manager: BatchManager, it: Batch) -> Any:
    results = zip(profile_ids(it), [ok("late"), ok("late"), failed()], strict=True)
    return manager.record_results(it.pk, it.token, results)


def remove_old(manager: BatchManager, it: Any) -> Any:
    old = find_logs(timezone.now())
    return manager.remove_old(old, list(old.values_list("pk", flat=True)))


#: The status of the batch "it", what happens to it first, and the call. A name starts with the method's.
SCENES: dict[str, tuple[str, Callable[[Batch], None], Callable[[BatchManager, Batch], Any]]] = {
    **{
        f"{name} {status}": (status, keep, lambda manager, it, call=CALLS[name]: call(manager, it.pk))
        for name, status in [*ALLOWED, *sorted(OTHERS)]
    },
    "create_batch": (PAUSED, keep, lambda manager, it: manager.create_batch("new", urls(5))),
    "create_batch selected": (PAUSED, keep, lambda manager, it: manager.create_batch("new", Profile.objects.all())),
    "start_batch interrupting": (RUNNING, choose_another, lambda manager, it: manager.start_batch(it.other.pk, True)),
    "move_batch_past": ("queued", show_move, lambda manager, it: manager.move_batch_past(it.pk, *it.shown_move)),
    "delete_batches": (PAUSED, keep, lambda manager, it: any(manager.delete_batches([it.pk, it.pk.hex]))),
    "purge_deleted": (PAUSED, mark_deleted, lambda manager, it: manager.purge_deleted()),
    "retry_failed by reason": (PAUSED, keep, lambda manager, it: manager.retry_failed(it.pk, reasons=[REASON])),
    "retry_failed chosen": (PAUSED, keep, lambda manager, it: manager.retry_failed(it.pk, profiles=profile_ids(it))),
    "finish_resets": (PAUSED, begin_reset, lambda manager, it: manager.finish_resets()),
    "undo_change of a pause": (PAUSED, keep, lambda manager, it: manager.undo_change(it.pk)),
    "undo_change of a move": ("queued", keep, lambda manager, it: manager.undo_change(it.pk)),
    "undo_change of a start": (RUNNING, interrupt_it, lambda manager, it: manager.undo_change(it.other.pk)),
    "reorder_queue": (PAUSED, open_gap, lambda manager, it: manager.reorder_queue()),
    "hold_queue": (PAUSED, keep, lambda manager, it: manager.hold_queue("The network is being repaired.")),
    "hold_queue stopping it": (RUNNING, keep, lambda manager, it: manager.hold_queue("Repairs.", stop_running=True)),
    "release_queue": (PAUSED, hold_queue, lambda manager, it: manager.release_queue()),
    "release_queue of a stopped one": (RUNNING, stop_it, lambda manager, it: manager.release_queue()),
    "claim_run at the end of a hold": (RUNNING, let_the_hold_end, lambda manager, it: manager.claim_run("worker")),
    "promote_next_batch": (PAUSED, keep, lambda manager, it: manager.promote_next_batch()),
    "repair_batch": (PAUSED, damage_counters, lambda manager, it: manager.repair_batch(it.pk)),
    "repair_rows": (PAUSED, mark_deleted, lambda manager, it: manager.repair_rows()),
    "claim_run of the head": (PAUSED, keep, lambda manager, it: manager.claim_run("worker")),
    "claim_run released": (RUNNING, release_run, lambda manager, it: manager.claim_run("worker")),
    "claim_run joining": (RUNNING, free_partitions, lambda manager, it: manager.claim_run("worker", 1)),
    "claim_run expired": (RUNNING, expire_lease, lambda manager, it: manager.claim_run("worker")),
    "claim_run owned": (RUNNING, keep, lambda manager, it: manager.claim_run("worker")),
    "claim_run lost too often": (RUNNING, lose_runs, lambda manager, it: manager.claim_run("worker")),
    "ensure_run": (PAUSED, keep, lambda manager, it: manager.ensure_run("worker", 4)),
    "ensure_run of a run": (RUNNING, free_partitions, lambda manager, it: manager.ensure_run("worker", 4)),
    "record_results": (RUNNING, keep, record_all),
    "renew_lease": (RUNNING, keep, lambda manager, it: manager.renew_lease(it.pk, it.token)),
    "share_run": (
        RUNNING,
        free_partitions,
        lambda manager, it: manager.share_run(it.pk, it.token, *DOMAINS, [0], [], 1),
    ),
    "remove_old": (PAUSED, keep, remove_old),
    "start_worker": (PAUSED, keep, lambda manager, it: manager.start_worker("worker") is None),
    "note_worker": (PAUSED, keep, lambda manager, it: manager.note_worker("worker") is None),
    "end_worker": (PAUSED, keep, lambda manager, it: manager.end_worker("worker") is None),
    "release_run": (RUNNING, keep, lambda manager, it: manager.release_run(it.pk, it.token)),
    "finish_run": (RUNNING, check_all, lambda manager, it: manager.finish_run(it.pk, it.token)),
    "finish_run without rows": (RUNNING, remove_rows, lambda manager, it: manager.finish_run(it.pk, it.token)),
    "report_outage": (RUNNING, lose_answers, report_outage),
    "end_outage": (PAUSED, be_offline, lambda manager, it: manager.end_outage()),
    "create_batch kept as a list": (PAUSED, keep, lambda manager, it: manager.create_batch("new", urls(5), keep=True)),
    "repeat_batch of a list": (PAUSED, give_list, lambda manager, it: manager.repeat_batch(it.pk)),
    "create_list": (PAUSED, keep, lambda manager, it: manager.create_list("new", urls(5))),
    "change_list": (PAUSED, give_list, lambda manager, it: manager.change_list(it.list_id, name="new", priority=7)),
    "add_profiles": (PAUSED, give_list, lambda manager, it: manager.add_profiles(it.list_id, urls(7))),
    "remove_profiles": (PAUSED, give_list, lambda manager, it: manager.remove_profiles(it.list_id, urls(2))),
    "sync_list": (PAUSED, give_list, lambda manager, it: manager.sync_list(it.list_id, urls(7)[2:], True)),
    "preview_sync": (PAUSED, give_list, lambda manager, it: manager.preview_sync(it.list_id, urls(7))),
    "correct_address": (PAUSED, give_list, lambda manager, it: manager.correct_address(it.list_id, urls(1)[0], NEW)),
    "run_list": (PAUSED, give_list, lambda manager, it: manager.run_list(it.list_id)),
    "queue_due_lists": (PAUSED, make_due, lambda manager, it: manager.queue_due_lists()),
    "accept_redirect": (PAUSED, see_redirect, lambda manager, it: manager.accept_redirect(it.redirect.pk)),
    "accept_redirect merging": (PAUSED, propose_merger, lambda manager, it: manager.accept_redirect(it.redirect.pk)),
    "accept_redirects": (PAUSED, see_redirect, lambda manager, it: all(manager.accept_redirects([it.redirect]))),
    "find_redirect": (PAUSED, see_redirect, lambda manager, it: manager.find_redirect(it.redirect.pk)),
    "create_feed": (PAUSED, give_list, lambda manager, it: manager.create_feed(it.list_id, "new")),
    "revoke_feed": (PAUSED, publish, lambda manager, it: manager.revoke_feed(ListFeed.objects.get().pk)),
    "forget_profile": (RUNNING, give_list, lambda manager, it: manager.forget_profile(profile_ids(it)[0])),
    "forget_profile of a list": (PAUSED, give_list, lambda manager, it: manager.forget_profile(profile_ids(it)[1])),
    "add_profiles staged": (PAUSED, give_list, lambda manager, it: manager.add_profiles(it.list_id, urls(7))),
    "remove_profiles staged": (PAUSED, give_list, lambda manager, it: manager.remove_profiles(it.list_id, urls(4))),
    "sync_list staged": (PAUSED, give_list, lambda manager, it: manager.sync_list(it.list_id, urls(7)[2:], True)),
    "purge_deleted edits": (PAUSED, leave_edit, lambda manager, it: manager.purge_deleted()),
    "delete_list": (PAUSED, give_list, lambda manager, it: manager.delete_list(it.list_id)),
    "subscribe": (PAUSED, give_list, lambda manager, it: manager.subscribe(it.list_id, "ada@example.org", ["done"])),
    "change_subscription": (
        PAUSED,
        give_subscription,
        lambda manager, it: manager.change_subscription(it.subscription, topics=["error"]),
    ),
    "unsubscribe": (PAUSED, give_subscription, lambda manager, it: manager.unsubscribe(it.subscription)),
    "delete_webhooks": (PAUSED, give_webhook, lambda manager, it: manager.delete_webhooks([it.webhook.pk])),
    "send_test_message": (PAUSED, give_subscription, lambda manager, it: manager.send_test_message(it.subscription)),
    "complete_batch with a subscription": (
        PAUSED,
        give_subscription,
        lambda manager, it: manager.complete_batch(it.pk),
    ),
    "handle_error of a run": (RUNNING, keep, lambda manager, it: manager.handle_error(it.pk, "Broken.", it.token)),
}


def test_every_call_has_a_scene():
    calls = {name for name, _ in inspect.getmembers(BatchManager, inspect.isfunction) if not name.startswith("_")}
    # `preparing_…` is the first half of a call.
    assert {name.split()[0] for name in SCENES} == {name for name in calls if not name.startswith("preparing_")}


#: Calls that also store or remove the rows of hidden batches, in separate transactions.
IN_SEVERAL_TRANSACTIONS = {
    "create_batch",
    "repeat_batch",
    "delete_batch",
    "delete_batches",
    "purge_deleted",
    "repair_rows",
    # These also store profiles beforehand.
    "create_list",
    "add_profiles",
    "remove_profiles",
    "sync_list",
    "run_list",
    "delete_list",
    "queue_due_lists",
    # A profile may be in many batches, and stays until the last of them is cleaned.
    "forget_profile",
    # The heartbeat of the worker comes first, or after the heartbeat of the lease.
    "claim_run",
    "ensure_run",
    "renew_lease",
    # Two tables, and neither needs the other.
    "start_worker",
    "end_worker",
}


class InjectedFault(OperationalError):
    pass


class Fault:
    """The outcome of a call with a fault: whether any of its changes were committed."""

    has_stored = False


@contextmanager
def fail_at(step: int) -> Iterator[Fault]:
    """Raise InjectedFault instead of the statement or COMMIT with this number, counted from 1."""
    connection = connections[DEFAULT_DB_ALIAS]
    steps, fault = count(1), Fault()

    def pass_step() -> None:
        if next(steps) == step:
            raise InjectedFault

    def run_statement(execute: Callable[..., Any], *arguments: Any) -> Any:
        pass_step()
        fault.has_stored |= not (connection.in_atomic_block or arguments[0].startswith("SELECT"))
        return execute(*arguments)

    def commit() -> None:
        pass_step()
        type(connection)._commit(connection)
        fault.has_stored = True

    connection._commit = commit
    try:
        with connection.execute_wrapper(run_statement):
            yield fault
    finally:
        del connection._commit


@pytest.mark.django_db(transaction=True)
@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_fault_at_any_statement_changes_nothing_visible(stride, scene, manager, monkeypatch):
    """Most calls are one transaction. The next deletion or import removes the rest of an interrupted one."""
    if scene.endswith("staged"):
        monkeypatch.setattr(editions, "INSERT_CHUNK", 3)
    status, prepare, call = SCENES[scene]
    it = half_checked(status, rows="update_progress" not in scene)
    prepare(it)
    it.refresh_from_db()
    remember_token(it)
    before = everything()
    for step in count(1, stride):
        with fail_at(step) as fault:
            try:
                answer = call(manager, it)
            except InjectedFault:
                answer = fault
        if answer is not fault:
            break
        # Every tenth time even if nothing can have changed: reading all tables takes longer than most calls.
        if (fault.has_stored or step % 10 == 1) and everything() != before:
            assert scene.split()[0] in IN_SEVERAL_TRANSACTIONS
            # The fault may have hit the attempt to clean up, too. The batch counts as interrupted later anyway.
            for model in (Batch, ProfileList):
                model.everything.in_preparation().update(deleted_at=Now())
            ProfileList.objects.filter(edit_until__gt=Now()).update(edit_until=Now())
            manager.purge_deleted()
            assert_sound()
            empty_tables()
            restore(before)
            it.refresh_from_db()
    assert step > 1
    assert answer is not False
    assert_sound()

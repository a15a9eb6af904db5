"""ETags: polling costs two queries while nothing changes, and every change is visible at once."""

from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models import DateTimeField, Value
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from batches.api import conditional
from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Queue
from batches.queue.runs import ClaimedRun
from batches.tests.support.factories import failed, make_batch, ok, record_one, start_run

from .conftest import make_user, refusal_of, token_client

pytestmark = pytest.mark.django_db

QUEUE = "/api/queue/"


@pytest.fixture(autouse=True)
def calm(settings, monkeypatch):
    """Nothing changes by time alone, unless a test says so."""
    settings.BATCHES = {"LEASE_SECONDS": 600}
    monkeypatch.setattr(conditional, "DRIFT", 10**12)


@dataclass
class World:
    manager: BatchManager
    run: ClaimedRun
    first: Batch
    last: Batch
    paused: Batch
    done: Batch


@pytest.fixture
def world():
    """A running batch, two queued ones, a paused one, and a finished one with a failed profile."""
    manager = BatchManager()
    done = make_batch("done", 1)
    record_one(start_run(done), failed())
    assert manager.complete_batch(done.pk)
    paused = Batch.objects.create(name="paused", total_profiles=5)
    assert manager.pause_batch(paused.pk)
    run = start_run(make_batch("running", 3))
    return World(manager, run, make_batch("first", 2), make_batch("last", 2), paused, done)


CHANGES = {
    "queue_batch": lambda w: w.manager.queue_batch(w.paused.pk),
    "queue_batch, of a done one": lambda w: w.manager.queue_batch(w.done.pk),
    "queue_batch, of a waiting one": lambda w: w.manager.queue_batch(w.first.pk),
    "start_batch": lambda w: w.manager.pause_batch(w.run.batch.pk) and w.manager.start_batch(w.first.pk),
    "pause_batch": lambda w: w.manager.pause_batch(w.run.batch.pk),
    "pause_batch, of a waiting one": lambda w: w.manager.pause_batch(w.last.pk),
    "complete_batch": lambda w: w.manager.complete_batch(w.run.batch.pk),
    "handle_error": lambda w: w.manager.handle_error(w.first.pk, "It broke."),
    "move_batch": lambda w: w.manager.move_batch(w.last.pk, 1),
    "set_priority": lambda w: w.manager.set_priority(w.last.pk, 5),
    "set_priority, in its place": lambda w: w.manager.set_priority(w.first.pk, 1),
    "rename_batch": lambda w: w.manager.rename_batch(w.last.pk, "renamed"),
    "rename_batch, of the running one": lambda w: w.manager.rename_batch(w.run.batch.pk, "renamed"),
    "retry_failed": lambda w: w.manager.retry_failed(w.done.pk),
    "repeat_batch": lambda w: w.manager.repeat_batch(w.done.pk),
    "create_batch": lambda w: make_batch("new"),
    "Batch.objects.create": lambda w: Batch.objects.create(name="new"),
    "delete_batch": lambda w: w.manager.delete_batch(w.first.pk),
    "delete_batches": lambda w: w.manager.delete_batches([w.first.pk]),
    "hold_queue": lambda w: w.manager.hold_queue("maintenance"),
    "release_queue": lambda w: w.manager.release_queue(),
    "reorder_queue": lambda w: w.manager.reorder_queue(),
    # The counters change although their sum does not.
    "update_progress": lambda w: w.manager.update_progress(w.run.batch.pk, 3, 2, 1),
    "record_results": lambda w: record_one(w.run, ok()),
    "record_results, a failure": lambda w: record_one(w.run, failed()),
    "record_results, with a story": lambda w: record_one(w.run, ok("new")),
    "release_run": lambda w: w.manager.release_run(w.run.batch.pk, w.run.run_token),
    "promote_next_batch": lambda w: w.manager.complete_batch(w.run.batch.pk) and w.manager.promote_next_batch(),
    "claim_run, by another worker": lambda w: w.manager.claim_run("another") is None,
    "finish_run": lambda w: w.manager.finish_run(w.run.batch.pk, w.run.run_token),
    "the heartbeat stops": lambda w: set_heartbeat(timedelta(hours=1)),
    "renew_lease, of a worker that was silent": lambda w: w.manager.renew_lease(w.run.batch.pk, w.run.run_token),
}
#: What the change needs.
BEFORE = {
    "release_queue": lambda w: w.manager.hold_queue(),
    "reorder_queue": lambda w: Batch.objects.filter(pk=w.first.pk).delete(),
    "update_progress": lambda w: make_rowless(w),
    "finish_run": lambda w: [record_one(w.run, ok()) for _ in range(3)],
    "renew_lease, of a worker that was silent": lambda w: set_heartbeat(timedelta(hours=1)),
}
#: The tag stays the same.
NO_CHANGES = {
    "a heartbeat of the run": lambda w: w.manager.renew_lease(w.run.batch.pk, w.run.run_token),
    "a heartbeat of an idle worker": lambda w: w.manager.claim_run("worker") is None,
    "a refused call": lambda w: not w.manager.start_batch(w.first.pk),
}


def make_rowless(world):
    assert world.manager.pause_batch(world.run.batch.pk)
    world.run = start_run(Batch.objects.create(name="without rows", total_profiles=9))
    assert world.manager.update_progress(world.run.batch.pk, 3, 3, 0)


def set_heartbeat(ago):
    """Set the time of the worker's last heartbeat."""
    Queue.objects.update(worker_seen_at=Now() - ago)
    return Batch.objects.filter(position=0).update(lease_at=Now() - ago)


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_of_the_queue_changes_its_tag(client, world, change):
    if change in BEFORE:
        BEFORE[change](world)
    before = client.get(QUEUE)
    tag = before["ETag"]
    assert client.get(QUEUE, headers={"If-None-Match": tag}).status_code == 304

    assert CHANGES[change](world)

    after = client.get(QUEUE, headers={"If-None-Match": tag})
    assert after.status_code == 200
    assert after["ETag"] != tag
    assert after.json() != before.json() or change == "release_run"


def test_every_call_that_changes_the_queue_is_in_the_table():
    private = {"purge_deleted"}  # part of other calls
    calls = {name for name, call in vars(BatchManager).items() if callable(call) and not name.startswith("_")}
    tried = {name.partition(",")[0] for name in CHANGES}
    assert calls - private <= tried | REPAIRS


#: The doctor's calls change nothing in a queue that is whole.
REPAIRS = {name for name in vars(BatchManager) if name.startswith(("repair", "recount", "prune", "remove"))}


@pytest.mark.parametrize("event", NO_CHANGES)
def test_the_tag_stays_if_nothing_changes(client, world, event):
    tag = client.get(QUEUE)["ETag"]
    assert NO_CHANGES[event](world)
    assert client.get(QUEUE, headers={"If-None-Match": tag}).status_code == 304


def test_the_tag_changes_once_a_minute_because_expected_times_drift(client, world, monkeypatch):
    start = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    moments = iter(Value(start + timedelta(seconds=seconds), DateTimeField()) for seconds in (119.9, 120.0, 179.9))
    monkeypatch.setattr(conditional, "DRIFT", 60)
    monkeypatch.setattr(conditional, "Now", lambda: next(moments))
    tags = [client.get(QUEUE)["ETag"] for _ in range(3)]
    assert tags[0] != tags[1] == tags[2]


def test_the_tag_of_the_queue_is_weak_and_private(client, world):
    answer = client.get(QUEUE)
    assert answer["ETag"].startswith('W/"')
    for response in (answer, client.get(QUEUE, headers={"If-None-Match": answer["ETag"]})):
        assert response["ETag"] == answer["ETag"]
        assert set(response["Cache-Control"].split(", ")) == {"private", "no-cache"}
        assert {"Authorization", "Cookie"} <= set(response["Vary"].split(", "))


@pytest.mark.parametrize("path", [QUEUE, "/api/batches/{pk}/"])
def test_a_tag_is_recognised_in_every_form(client, world, path):
    path = path.format(pk=world.first.pk)
    tag = client.get(path)["ETag"]
    bare = tag.removeprefix("W/")
    for header in (tag, f'"other", {tag}', "*", f"W/{bare}", bare):
        for call in (client.get, client.head):
            answer = call(path, headers={"If-None-Match": header})
            assert (answer.status_code, answer.content) == (304, b""), header
    for header in ("", "nonsense", '"other"', 'W/"', "\xff", '"' * 1000):
        assert client.get(path, headers={"If-None-Match": header}).status_code == 200, header
    answer = client.get(path, headers={"If-Match": '"other"'})
    assert refusal_of(answer) == (412, "precondition_failed")


def test_the_tag_of_a_batch_changes_with_each_of_its_fields(client, world):
    path, pk = f"/api/batches/{world.run.batch.pk}/", world.run.batch.pk
    for change in (
        lambda: record_one(world.run, ok("new")),
        lambda: world.manager.rename_batch(pk, "renamed"),
        lambda: world.manager.set_priority(pk, 3),
        lambda: world.manager.pause_batch(pk),
        lambda: world.manager.queue_batch(pk),
        lambda: world.manager.move_batch(pk, 2),
        lambda: world.manager.pause_batch(world.first.pk),  # it moves up
    ):
        tag = client.get(path)["ETag"]
        assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
        assert change()
        assert client.get(path, headers={"If-None-Match": tag}).status_code == 200
    assert world.manager.delete_batch(pk)
    assert client.get(path, headers={"If-None-Match": "*"}).status_code == 404


def test_a_write_ignores_tags(client, world):
    tags = {"If-None-Match": "*", "If-Match": '"other"'}
    assert client.patch(f"/api/batches/{world.first.pk}/", {"priority": 7}, headers=tags).status_code == 200
    assert client.post("/api/queue/hold/", headers=tags).status_code == 200


def test_a_queue_without_its_row_has_no_tag(client):
    Queue.objects.all().delete()
    answer = client.get(QUEUE, headers={"If-None-Match": "*"})
    assert answer.status_code == 200
    assert "ETag" not in answer


# Permissions


@pytest.fixture(params=["the user", "the group"])
def viewer(request):
    if request.param == "the user":
        return make_user("view_batch", name="viewer")
    user, group = make_user(name="viewer"), Group.objects.create(name="viewers")
    group.permissions.add(Permission.objects.get(codename="view_batch"))
    user.groups.add(group)
    return user


@pytest.mark.parametrize("path", [QUEUE, "/api/batches/{pk}/"])
def test_an_unchanged_answer_costs_two_queries_and_needs_the_permission(world, viewer, path):
    client, path = token_client(viewer), path.format(pk=world.first.pk)
    tag = client.get(path)["ETag"]
    with CaptureQueriesContext(connection) as queries:
        assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    assert len(queries) == 2
    assert client.get(f"{path}logs/" if "batches" in path else "/api/profiles/").status_code == 403
    viewer.user_permissions.clear()
    viewer.groups.clear()
    for sent in (tag, "*"):
        assert client.get(path, headers={"If-None-Match": sent}).status_code == 403
        assert APIClient().get(path, headers={"If-None-Match": sent}).status_code == 401
    User.objects.update(is_active=False)
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 401


def test_another_authentication_backend_can_forbid(world, viewer, settings):
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Forbids", *settings.AUTHENTICATION_BACKENDS]
    assert token_client(viewer).get(QUEUE).status_code == 403


class Forbids:
    """A backend that forbids everything."""

    def has_perm(self, user, permission, obj=None):
        raise PermissionDenied


def test_later_log_lines_have_higher_ids(world):
    """The tag depends on it."""
    before = BatchLog.objects.latest("pk").pk
    assert world.manager.delete_batch(world.done.pk)
    assert BatchLog.objects.latest("pk").pk > before

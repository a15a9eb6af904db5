"""ETags: polling costs two queries while nothing changes, and every change is visible at once."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models import DateTimeField, Value
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from batches.api import conditional
from batches.batch_manager import BatchManager
from batches.models import Batch, Lease, Subscription
from batches.tests.support.factories import age_workers, failed, make_batch, ok, record_one, start_run

from .conftest import make_user, nothing_changes, refusal_of, token_client

pytestmark = pytest.mark.django_db

QUEUE = "/api/queue/"
manager = BatchManager()


@pytest.fixture(autouse=True)
def calm(settings, monkeypatch):
    """Stop the clock, unless a test moves it."""
    settings.BATCHES = {"LEASE_SECONDS": 600}
    monkeypatch.setattr(conditional, "DRIFT", 10**12)


@pytest.fixture
def run():
    """The run of a batch with three profiles. Another batch is queued."""
    run = start_run(make_batch("running", 3))
    make_batch("queued")
    return run


def queued():
    return Batch.objects.queued().get().pk


def set_heartbeat(ago):
    age_workers(ago)
    return Lease.objects.update(lease_at=Now() - ago)


def renew(run):
    return manager.renew_lease(run.batch.pk, run.run_token)


@pytest.mark.parametrize("method", ["patch", "delete"])
@pytest.mark.parametrize(
    ("kind", "body", "other"),
    [
        ("batches", {"name": "renamed", "priority": 3}, {"name": "other"}),
        ("lists", {"name": "renamed", "priority": 3}, {"name": "other"}),
        ("subscriptions", {"is_active": False}, {"digest_hour": 7}),
    ],
)
def test_a_change_of_what_has_changed_is_refused(client, a_list, kind, body, other, method):
    pk = {"batches": make_batch().pk, "lists": a_list.pk, "subscriptions": Subscription.objects.get().pk}[kind]
    address, seen = f"/api/{kind}/{pk}/", client.get(f"/api/{kind}/{pk}/")["ETag"]
    assert client.patch(address, other).status_code == 200
    current = client.get(address)["ETag"]
    assert client.get(address, headers={"If-None-Match": current}).status_code == 304

    def send(tag, address=address):
        return getattr(client, method)(address, body if method == "patch" else None, headers={"If-Match": tag})

    with nothing_changes():
        for stale in (seen, '"nonsense"', "nonsense"):
            assert refusal_of(send(stale)) == (412, "precondition_failed")
        assert refusal_of(send("*", f"/api/{kind}/{UUID(int=0)}/")) == (404, "not_found")
    assert send(f"{seen}, {current}").status_code == {"patch": 200, "delete": 204}[method]
    after = client.get(address)
    assert after.json().items() >= body.items() if method == "patch" else after.status_code == 404


#: `queue/test_state_machine` shows that each transition writes a log line: a few stand for all. Results write none.
CHANGES = {
    "a transition": lambda run: manager.rename_batch(run.batch.pk, "renamed"),
    "a transition of a queued batch": lambda run: manager.set_priority(queued(), 5),
    "the end of the run": lambda run: manager.complete_batch(run.batch.pk),
    "a new batch": lambda run: Batch.objects.create(name="new"),
    "a deletion": lambda run: manager.delete_batch(queued()),
    "a hold": lambda run: manager.hold_queue("maintenance"),
    "a result": lambda run: record_one(run, ok()),
    "a failure": lambda run: record_one(run, failed()),
    "a story": lambda run: record_one(run, ok("new")),
    "another worker": lambda run: manager.claim_run("another") is None,
    "the end of the heartbeats": lambda run: set_heartbeat(timedelta(hours=1)),
}
#: The tag stays the same.
NO_CHANGES = {
    "a heartbeat of the run": renew,
    "a heartbeat of an idle worker": lambda run: manager.claim_run("worker") is None,
    "a refused call": lambda run: not manager.start_batch(queued()),
}


def assert_changed(client, before):
    after = client.get(QUEUE, headers={"If-None-Match": before["ETag"]})
    assert after.status_code == 200
    assert after["ETag"] != before["ETag"]
    assert after.json() != before.json()


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_of_the_queue_changes_its_tag(client, run, change):
    before = client.get(QUEUE)
    assert CHANGES[change](run)
    assert_changed(client, before)


def test_the_tag_changes_with_counters_of_the_same_sum_and_when_heartbeats_start_again(client):
    run = start_run(Batch.objects.create(name="without rows", total_profiles=9))
    assert manager.update_progress(run.batch.pk, 3, 3, 0)
    before = client.get(QUEUE)
    assert manager.update_progress(run.batch.pk, 3, 2, 1)
    assert_changed(client, before)
    assert set_heartbeat(timedelta(hours=1))
    before = client.get(QUEUE)
    assert renew(run)
    assert_changed(client, before)


@pytest.mark.parametrize("event", NO_CHANGES)
def test_the_tag_stays_if_nothing_changes(client, run, event):
    tag = client.get(QUEUE)["ETag"]
    assert NO_CHANGES[event](run)
    assert client.get(QUEUE, headers={"If-None-Match": tag}).status_code == 304


def test_the_tag_changes_once_a_minute_because_expected_times_drift(client, run, monkeypatch):
    # In two days, when the worker is no longer alive: that would change the tag, too.
    start = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=2)
    moments = iter(Value(start + timedelta(seconds=seconds), DateTimeField()) for seconds in (119.9, 120.0, 179.9))
    monkeypatch.setattr(conditional, "DRIFT", 60)
    monkeypatch.setattr(conditional, "Now", lambda: next(moments))
    tags = [client.get(QUEUE)["ETag"] for _ in range(3)]
    assert tags[0] != tags[1] == tags[2]


@pytest.mark.parametrize("path", [QUEUE, "/api/batches/{pk}/"])
def test_a_tag_is_private_and_recognised(client, run, path):
    path = path.format(pk=run.batch.pk)
    tag = client.get(path)["ETag"]
    assert tag.startswith("W/") == (path == QUEUE)
    for call in (client.get, client.head):
        answer = call(path, headers={"If-None-Match": f'"other", {tag}'})
        assert (answer.status_code, answer.content, answer["ETag"]) == (304, b"", tag)
        assert set(answer["Cache-Control"].split(", ")) == {"private", "no-cache"}
        assert {"Authorization", "Cookie"} <= set(answer["Vary"].split(", "))
    assert client.get(path, headers={"If-None-Match": "nonsense"}).status_code == 200
    answer = client.get(path, headers={"If-Match": '"other"'})
    assert refusal_of(answer) == (412, "precondition_failed")


# Permissions


@pytest.fixture
def viewer():
    return make_user("view_batch", name="viewer")


@pytest.mark.parametrize("path", [QUEUE, "/api/batches/{pk}/"])
def test_an_unchanged_answer_costs_two_queries_and_needs_the_permission(run, viewer, path):
    client, path = token_client(viewer), path.format(pk=run.batch.pk)
    tag = client.get(path)["ETag"]
    with CaptureQueriesContext(connection) as queries:
        assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    assert len(queries) == 2
    assert client.get(f"{path}logs/" if "batches" in path else "/api/profiles/").status_code == 403
    viewer.user_permissions.clear()
    for sent in (tag, "*"):
        assert client.get(path, headers={"If-None-Match": sent}).status_code == 403
        assert APIClient().get(path, headers={"If-None-Match": sent}).status_code == 401


def test_another_authentication_backend_can_forbid(viewer, settings):
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Forbids", *settings.AUTHENTICATION_BACKENDS]
    assert token_client(viewer).get(QUEUE).status_code == 403


class Forbids:
    def has_perm(self, user, permission, obj=None):
        raise PermissionDenied

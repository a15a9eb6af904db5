"""Clients for each role, and batches in each status, made by the calls that an installation makes."""

from itertools import count

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult, Story
from batches.models import Batch

VIEW = ["view_batch", "view_batchprofile", "view_profile", "view_storyresult", "view_batchlog"]
PERMISSIONS = {
    "staff": [],
    "viewer": VIEW,
    "operator": [*VIEW, "operate_batch"],
    "adder": ["view_batch", "add_batch"],
    "checker": [*VIEW, "add_batch"],
    "editor": ["view_batch", "change_batch", "delete_batch"],
}
NUMBERS = count()


@pytest.fixture
def client_of():
    return client_as


@pytest.fixture
def client(client_of):
    """May do everything."""
    return client_of("superuser")


def client_as(role, **options):
    """A client that is logged in as somebody with this role; `anonymous` is not logged in."""
    client = Client(**options)
    if role != "anonymous":
        client.force_login(user_of(role))
    return client


def user_of(role):
    if role == "superuser":
        return User.objects.create_superuser("superuser")
    user = User.objects.create_user(role, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=PERMISSIONS[role]))
    return user


def urls(number):
    return [f"https://example.org/{next(NUMBERS)}" for _ in range(number)]


def batch_with(status="queued", *, name="a batch", ok=0, failed=0, pending=1, stories=(), priority=0):
    """A batch in this status with so many profiles of each outcome; the first ok one shows these stories."""
    manager = BatchManager("maker")
    queue = status == "queued" and not ok and not failed
    batch = manager.create_batch(name, urls(ok + failed + pending), priority, queue=queue)
    if ok or failed or status == "running":
        assert manager.start_batch(batch.pk)
        record(manager, batch, ok, failed, stories)
        assert status == "running" or manager.pause_batch(batch.pk)
    call = {"queued": "queue_batch", "done": "complete_batch"}.get(status)
    assert call is None or getattr(manager, call)(batch.pk)
    assert status != "error" or manager.handle_error(batch.pk, "the disk is full")
    return reread(batch)


def record(manager, batch, ok, failed, stories):
    run = manager.claim_run("a worker")
    rows = batch.profiles.order_by("pk").values_list("profile_id", flat=True)[: ok + failed]
    results = [CheckResult(ok=True, stories=stories if index == 0 else ()) for index in range(ok)]
    results += [CheckResult(ok=False, error="HTTP status 500", http_status=500)] * failed
    assert manager.record_results(batch.pk, run.run_token, zip(rows, results, strict=True))


def story(title="A story", url="https://news.example.org/1"):
    return Story(id=title, title=title, url=url)


def reread(batch):
    return Batch.objects.get(pk=batch.pk)


def state():
    """Everything that an operation may change, to show that nothing did."""
    fields = ("pk", "name", "status", "position", "priority", "total_profiles", "completed_profiles", "failed_checks")
    return sorted(Batch.objects.values_list(*fields))


def text_of(response):
    assert response.status_code == 200
    return response.content.decode()


def messages_of(response):
    return [(message.level_tag, str(message)) for message in response.context["messages"]]


def queries_of(request):
    with CaptureQueriesContext(connection) as captured:
        request()
    return len(captured)

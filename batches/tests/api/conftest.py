"""Users of each role with their tokens, and batches in each status, made by the calls that an installation makes."""

from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult
from batches.tests.support.tables import every_table

VIEW_RESULTS = ["view_batchprofile", "view_storyresult", "view_batchlog", "view_profile"]

PERMISSIONS = {
    "nobody": [],
    "viewer": ["view_batch"],
    "analyst": VIEW_RESULTS,
    "operator": ["view_batch", "operate_batch", *VIEW_RESULTS],
    "creator": ["add_batch"],
    "editor": ["change_batch"],
    "cleaner": ["delete_batch"],
}


@pytest.fixture(autouse=True)
def static_files_unread(settings):
    """Each client loads the middleware anew, and whitenoise would walk through all static files each time."""
    settings.WHITENOISE_AUTOREFRESH = True


@pytest.fixture(autouse=True)
def nobody_counted():
    """Tests follow each other faster than requests may."""
    cache.clear()


@pytest.fixture
def client_for():
    """A client that shows its role's token; `anonymous` has none."""

    def make(role):
        client = APIClient()
        if role != "anonymous":
            client.credentials(HTTP_AUTHORIZATION=f"Token {Token.objects.create(user=user_of(role)).key}")
        return client

    return make


@pytest.fixture
def client(client_for):
    """May do everything."""
    return client_for("root")


def user_of(role):
    if role == "root":
        return User.objects.create_superuser("root")
    user = User.objects.create_user(role)
    user.user_permissions.set(Permission.objects.filter(codename__in=PERMISSIONS[role]))
    return user


@pytest.fixture
def make_batch():
    return batch_with


def batch_with(status="queued", *, name="a batch", profiles=2, failed=0, priority=0):
    """A batch of so many profiles, the first `failed` of which are checked and failed."""
    manager = BatchManager()
    urls = [f"https://example.org/{uuid4()}" for _ in range(profiles)]
    batch = manager.create_batch(name, urls, priority=priority)
    if failed or status == "running":
        assert manager.start_batch(batch.pk)
    if failed:
        run = manager.claim_run("worker")
        rows = batch.profiles.order_by("pk")[:failed]
        results = [(row.profile_id, CheckResult(ok=False, error="HTTP status 500")) for row in rows]
        assert manager.record_results(batch.pk, run.run_token, results)
    if leave := LEAVE.get(status):
        assert leave(manager, batch.pk)
    elif failed and status == "queued":
        assert manager.pause_batch(batch.pk)
        assert manager.queue_batch(batch.pk)
    batch.refresh_from_db()
    assert batch.status == status
    return batch


LEAVE = {
    "paused": BatchManager.pause_batch,
    "done": BatchManager.complete_batch,
    "error": lambda manager, pk: manager.handle_error(pk, "The disk is full."),
}


@pytest.fixture
def everything():
    """All that a call could change, and what it could not."""
    return every_table

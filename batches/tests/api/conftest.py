"""Clients with and without permissions, and batches in each status."""

from contextlib import contextmanager
from uuid import UUID

import jsonschema
import pytest
import yaml
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from pytest_django.live_server_helper import LiveServer
from rest_framework.test import APIClient

from batches.batch_manager import BatchManager
from batches.tests.support import factories
from batches.tests.support.tables import every_table

from .calls import LIST_ID

COMMITTED = settings.BASE_DIR / "docs" / "reference" / "openapi.yaml"


@pytest.fixture(autouse=True)
def empty_throttles():
    """Tests make more requests a minute than a user is allowed."""
    cache.clear()


def make_root():
    return User.objects.create_superuser("root")


def make_user(*permissions, name="somebody"):
    user = User.objects.create_user(name)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def token_client(user, client=None, **fields):
    """The client, or a new one, with a token that has these fields."""
    client = client or APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {factories.api_key(user, **fields)}")
    return client


@pytest.fixture
def client():
    """The client of a superuser."""
    return token_client(make_root())


@pytest.fixture
def site(transactional_db):
    """The address of a real server."""
    live = LiveServer("127.0.0.1")
    yield live.url
    live.stop()


@pytest.fixture
def make_batch():
    return batch_with


@pytest.fixture
def a_list():
    """With a subscription and a feed."""
    made = factories.make_list("the list", 2, id=UUID(LIST_ID))
    factories.subscribe(made)
    assert BatchManager().create_feed(made.pk, "a feed")
    return made


@factories.remembered
def batch_with(status="queued", *, name="a batch", profiles=2, failed=0, priority=0):
    """A batch with this many profiles, the first `failed` of which have failed."""
    batch = factories.make_batch(name, profiles, priority=priority)
    if failed or status == "running":
        run = factories.start_run(batch)
        results = [(profile, factories.failed("HTTP status 500")) for profile in factories.profile_ids(batch)[:failed]]
        factories.record(run, results)
    if failed or status != "queued":
        for change in factories.WAYS[status][:2]:  # the third way to the queue is a move within it
            assert change(BatchManager(), batch.pk)
    batch.refresh_from_db()
    assert batch.status == status
    return batch


@contextmanager
def nothing_changes():
    """No row of any table."""
    before = every_table()
    yield
    assert every_table() == before


@pytest.fixture(scope="session")
def described():
    """The committed description."""
    return yaml.load(COMMITTED.read_text(), yaml.CSafeLoader)


def validator(described, schema):
    """Strict: no field that is not described."""
    components = {
        name: component | ({"additionalProperties": False} if "properties" in component else {})
        for name, component in described["components"]["schemas"].items()
    }
    return jsonschema.Draft202012Validator(
        {"components": {"schemas": components}, **schema}, format_checker=jsonschema.FormatChecker()
    )


def errors_of(answer):
    """The names of the fields, parameters or headers that a 400 refuses."""
    assert refusal_of(answer) == (400, "invalid")
    return answer.json()["errors"].keys()


def refusal_of(answer):
    """The status and the code of an error."""
    assert {"code", "detail"} <= answer.json().keys() <= {"code", "detail", "errors", "rejected", "batch", "list"}
    return answer.status_code, answer.json()["code"]

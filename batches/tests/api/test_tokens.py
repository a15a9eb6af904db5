"""Tokens: their scope, at most their user's permissions, their expiry, and their storage."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from batches.models.api import AccessToken
from batches.tests.support.tables import every_table

from .conftest import batch_with, make_root, make_user, token_client

pytestmark = pytest.mark.django_db

NEW = {"name": "new", "profiles": ["https://example.org/feed"]}


def client_with(user, **fields):
    token = AccessToken(user=user, name="a token", **fields)
    key = token.new_key()
    token.save()
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {key}")
    return client


def statuses(client):
    """Of reading everything, adding a batch, and of each other change."""
    path = f"/api/v1/batches/{batch_with().pk}/"
    lists = ["batches/", "queue/", "profiles/", "stories/"]
    reading = [client.get(f"/api/v1/{name}").status_code for name in lists]
    reading += [client.get(path + name).status_code for name in ("", "profiles/", "stories/", "logs/", "export/csv/")]
    others = [client.post(path + name).status_code for name in ("pause/", "queue/")]
    bulk = {"action": "pause", "ids": ["8e03978e-40d5-43e8-bc93-6894a57f9324"]}
    others += [
        client.post("/api/v1/batches/bulk/", bulk, format="json").status_code,
        client.post("/api/v1/queue/hold/").status_code,
        client.patch(path, {"name": "x"}, format="json").status_code,
        client.delete(path).status_code,
    ]
    return reading, client.post("/api/v1/batches/", NEW, format="json").status_code, others


@pytest.mark.parametrize(
    ("scope", "adding", "others"),
    [("read", 403, [403] * 6), ("add", 201, [403] * 6), ("operate", 201, [200] * 5 + [204])],
)
def test_a_token_can_do_what_its_scope_says(scope, adding, others):
    assert statuses(client_with(make_root(), scope=scope)) == ([200] * 9, adding, others)


def test_a_refusal_names_the_scope_and_nothing_is_changed():
    client, path = client_with(make_root(), scope="read"), f"/api/v1/batches/{batch_with().pk}/pause/"
    assert client.get("/api/v1/queue/").status_code == 200  # notes its use
    before = every_table()
    detail = "The scope of this token does not allow that. Create a token with another scope."
    assert client.post(path).json() == {"code": "permission_denied", "detail": detail}
    assert every_table() == before


def test_a_scope_gives_no_permission_that_the_user_lacks():
    _, adding, others = statuses(client_with(make_user("view_batch"), scope="operate"))
    assert [adding, *others] == [403] * 7


def test_expired_tokens_and_tokens_of_inactive_users_are_refused():
    user = make_root()
    assert client_with(user, expires_at=timezone.now() + timedelta(hours=1)).get("/api/v1/queue/").status_code == 200
    AccessToken.objects.all().delete()
    expired = client_with(user, expires_at=timezone.now()).get("/api/v1/queue/")
    assert (expired.status_code, expired.json()["detail"]) == (401, "The token has expired. Create another.")
    AccessToken.objects.all().delete()
    client = client_with(user)
    user.is_active = False
    user.save()
    assert client.get("/api/v1/queue/").status_code == 401


def test_the_last_use_is_written_once_a_minute(stopped_clock):
    client = client_with(make_root())
    assert AccessToken.objects.get().last_used_at is None
    uses = []
    for ago in (0, 59, 61):
        AccessToken.objects.filter(last_used_at__isnull=False).update(
            last_used_at=stopped_clock - timedelta(seconds=ago)
        )
        before = AccessToken.objects.get().last_used_at
        assert client.get("/api/v1/queue/").status_code == 200
        uses.append(AccessToken.objects.get().last_used_at != before)
    assert uses == [True, False, True]


def test_polling_with_a_new_token_costs_no_more_queries_than_with_an_old_one():
    user = make_root()
    old, new = token_client(user), client_with(user)
    for client in (old, new):
        assert client.get("/api/v1/queue/").status_code == 200  # notes its use
    with CaptureQueriesContext(connection) as before:
        old.get("/api/v1/queue/")
    with CaptureQueriesContext(connection) as queries:
        new.get("/api/v1/queue/")
    assert len(queries) == len(before)


def test_no_column_contains_the_key():
    user = make_root()
    token = AccessToken(user=user, name="a token")
    key = token.new_key()
    token.save()
    assert key[12:] not in str(every_table())
    token.refresh_from_db()
    assert (len(key), token.begins_with, len(token.digest)) == (51, key[:12], 64)

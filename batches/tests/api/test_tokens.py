"""Tokens: their scope, their expiry, and their last use."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from batches.models.api import AccessToken
from batches.tests.support.factories import undone

from .calls import CALLS, NEW_BATCH
from .conftest import batch_with, make_root, token_client

pytestmark = pytest.mark.django_db

QUEUE = "/api/v1/queue/"
SCOPE = "The scope of this token does not allow that. Create a token with another scope."


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("scope", AccessToken.Scope.values)
def test_a_token_can_do_what_its_scope_says(scope, a_list):
    client, batch = token_client(make_root(), scope=scope), batch_with("paused", failed=1)
    allowed = {"read": (), "add": ("add_batch",), "operate": tuple({call.permission for call in CALLS})}[scope]
    for call in CALLS:
        with undone():
            answer = call.send(client, batch)
        if call.permission.startswith("view_") or call.permission in allowed:
            assert answer.status_code != 403, call
        else:
            assert (answer.status_code, answer.json()["detail"]) == (403, SCOPE), call
    keeping = client.post("/api/v1/batches/", NEW_BATCH | {"keep": True})  # adds a list, too
    assert keeping.status_code == (201 if scope == "operate" else 403)


def test_expired_tokens_and_tokens_of_inactive_users_are_refused():
    user, now = make_root(), timezone.now()
    assert token_client(user, expires_at=now + timedelta(hours=1)).get(QUEUE).status_code == 200
    expired = token_client(user, expires_at=now).get(QUEUE)
    assert (expired.status_code, expired.json()["detail"]) == (401, "The token has expired. Create another.")
    User.objects.update(is_active=False)
    assert token_client(user).get(QUEUE).status_code == 401


def test_the_last_use_is_written_once_a_minute(stopped_clock):
    client = token_client(make_root(), last_used_at=None)
    assert AccessToken.objects.get().last_used_at is None
    uses = []
    for ago in (0, 59, 61):
        AccessToken.objects.filter(last_used_at__isnull=False).update(
            last_used_at=stopped_clock - timedelta(seconds=ago)
        )
        before = AccessToken.objects.get().last_used_at
        assert client.get(QUEUE).status_code == 200
        uses.append(AccessToken.objects.get().last_used_at != before)
    assert uses == [True, False, True]

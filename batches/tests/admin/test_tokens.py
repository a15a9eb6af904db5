"""API tokens: created, shown once, revoked, and invisible to other users."""

import re
from datetime import UTC, datetime

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient

from batches.models import Webhook
from batches.models.api import AccessToken
from batches.tests.support.factories import api_key
from batches.tests.support.threads import TIMEOUT, in_thread

from .conftest import address

pytestmark = pytest.mark.django_db

LIST = "/admin/batches/accesstoken/"
ADD = f"{LIST}add/"


def is_accepted(key):
    return APIClient().get("/api/queue/", headers={"Authorization": f"Token {key}"}).status_code != 401


@pytest.fixture
def keeper(client_of):
    """Has every permission on tokens without being a superuser."""
    client = client_of("staff")
    user = User.objects.get(username="staff")
    user.user_permissions.set(Permission.objects.filter(codename__endswith="token"))
    return client


def test_a_token_is_created_and_shown_once(client):
    ada = User.objects.create_user("ada")
    expiry = {"expires_at": "2126-01-02T03:04"}
    page = client.post(ADD, fields(ada, scope="add") | expiry, follow=True).content.decode()
    key = re.search(r"The token is (batches_[\w-]{43})\. Copy it now", page)[1]
    assert is_accepted(key)
    token = AccessToken.objects.get()
    assert (token.user, token.name, token.scope) == (ada, "nightly", "add")
    assert token.expires_at == datetime(2126, 1, 2, 3, 4, tzinfo=UTC)
    for path in (LIST, *(f"{LIST}{token.pk}/{view}/" for view in ("change", "delete", "history")), "/admin/"):
        page = client.get(path)
        assert page.status_code == 200
        assert "ada" in page.content.decode()
        assert key not in page.content.decode()
    assert LogEntry.objects.get().object_repr == "ada: nightly"


@pytest.mark.databases("postgresql")  # SQLite is locked before the form is checked
@pytest.mark.django_db(transaction=True)
def test_a_name_that_somebody_takes_at_the_same_moment_is_an_error_of_the_form(client, monkeypatch):
    ada, new_key = User.objects.create_user("ada"), AccessToken.new_key

    def come_second(token):
        monkeypatch.setattr(AccessToken, "new_key", new_key)
        in_thread(lambda: api_key(ada, name="nightly")).result(TIMEOUT)
        return new_key(token)

    monkeypatch.setattr(AccessToken, "new_key", come_second)
    response = client.post(ADD, fields(ada))
    assert "API token with this User and Name already exists." in response.content.decode()
    assert AccessToken.objects.count() == 1


def test_a_token_does_not_expire_in_the_past_or_in_a_year_that_other_time_zones_lack(client, settings):
    settings.TIME_ZONE = "America/New_York"  # its last evening is in the year 10000 of UTC
    for moment in ("9999-12-31T23:59", "0001-01-01T00:00", "2026-01-02T03:04"):
        page = client.post(ADD, fields(User.objects.create_user(moment)) | {"expires_at": moment})
        assert "Choose a time in the future, before the year 9999." in page.content.decode()
    assert not AccessToken.objects.exists()


def fields(user, scope="operate"):
    return {"user": user.pk, "name": "nightly", "scope": scope}


@pytest.mark.databases("sqlite")
def test_tokens_and_webhooks_have_names_that_people_can_see_and_that_reverse_no_text(client):
    for model, values in ((AccessToken, fields(User.objects.get())), (Webhook, {"url": "https://example.org/"})):
        add = address(model, "add")
        page = client.post(add, values | {"name": "\u200b"}).content.decode()
        assert "Every character of this name is invisible" in page
        assert client.post(add, values | {"name": "a\u202e \u2066 b"}).status_code == 302
        assert model.objects.get().name == "a b"


def test_a_revoked_token_is_refused(client):
    ada = User.objects.create_user("ada")
    key, other = api_key(ada, name="one"), api_key(ada)
    path = f"{LIST}{AccessToken.objects.get(name='one').pk}/delete/"
    assert client.post(path, {"post": "yes"}).status_code == 302
    assert (is_accepted(key), is_accepted(other)) == (False, True)


def test_a_second_token_of_the_same_name_and_one_of_an_inactive_user_are_refused(client):
    ada, inactive = User.objects.create_user("ada"), User.objects.create_user("bob", is_active=False)
    assert client.post(ADD, fields(ada)).status_code == 302
    for user in (ada, inactive):
        assert client.post(ADD, fields(user)).status_code == 200  # the form again, with its error
    token = AccessToken.objects.get()
    assert token.user == ada
    change = client.post(f"{LIST}{token.pk}/change/", fields(inactive))
    assert (change.status_code, AccessToken.objects.get().user) == (403, ada)


def test_other_users_than_superusers_create_tokens_only_for_themselves(keeper):
    other = User.objects.create_superuser("zorro")
    page = keeper.post(ADD, fields(other))
    assert page.status_code == 200
    assert "zorro" not in keeper.get(ADD).content.decode()
    assert not AccessToken.objects.exists()
    me = User.objects.get(username="staff")
    assert keeper.post(ADD, fields(me)).status_code == 302
    assert AccessToken.objects.get().user == me


def test_only_superusers_see_and_revoke_the_tokens_of_others(keeper):
    key = api_key(User.objects.create_superuser("root"))
    page = keeper.get(LIST).content.decode()
    assert "root" not in page
    assert f"{key[:12]}…" not in page
    for view in ("change", "delete"):
        keeper.post(f"{LIST}{AccessToken.objects.get().pk}/{view}/", {"post": "yes"})
    assert is_accepted(key)


def test_a_user_with_a_token_and_stored_responses_can_be_deleted(client):
    root = User.objects.create_superuser("root")
    headers = {"Authorization": f"Token {api_key(root)}", "Idempotency-Key": "k"}
    assert APIClient().post("/api/queue/hold/", headers=headers).status_code == 200
    assert client.post(f"/admin/auth/user/{root.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(username="root").exists()

"""API tokens: created, shown once, revoked, and invisible to other users."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db

LIST = "/admin/batches/apitoken/"
ADD = f"{LIST}add/"


def is_accepted(key):
    return APIClient().get("/api/queue/", headers={"Authorization": f"Token {key}"}).status_code != 401


@pytest.fixture
def keeper(client_of):
    """Has every permission on tokens without being a superuser."""
    client = client_of("staff")
    user = User.objects.get(username="staff")
    user.user_permissions.set(Permission.objects.filter(codename__endswith="_apitoken"))
    return client


@pytest.fixture
def root_token():
    return Token.objects.create(user=User.objects.create_superuser("root"))


def test_a_token_is_created_and_shown_once(client):
    ada = User.objects.create_user("ada")
    page = client.post(ADD, {"user": ada.pk}, follow=True).content.decode()
    key = Token.objects.get(user=ada).key
    assert key in page
    assert is_accepted(key)
    for path in (LIST, f"{LIST}{ada.pk}/change/", f"{LIST}{ada.pk}/delete/", f"{LIST}{ada.pk}/history/", "/admin/"):
        page = client.get(path)
        assert page.status_code == 200
        assert "ada" in page.content.decode()
        assert key not in page.content.decode()
    assert LogEntry.objects.get().object_repr == "ada"


def test_a_revoked_token_is_refused(client, root_token):
    path = f"{LIST}{root_token.user.pk}/delete/"
    assert client.post(path, {"post": "yes"}).status_code == 302
    assert not Token.objects.exists()
    assert not is_accepted(root_token.key)


def test_users_with_a_token_and_inactive_users_get_no_other(client, root_token):
    inactive = User.objects.create_user("bob", is_active=False)
    for user in (root_token.user, inactive):
        assert client.post(ADD, {"user": user.pk}).status_code == 200  # the form again, with its error
    assert Token.objects.get().user == root_token.user
    change = client.post(f"{LIST}{root_token.user.pk}/change/", {"user": inactive.pk})
    assert (change.status_code, Token.objects.get().user) == (403, root_token.user)


def test_other_users_than_superusers_create_tokens_only_for_themselves(keeper, root_token):
    other = User.objects.create_superuser("zorro")
    page = keeper.post(ADD, {"user": other.pk})
    assert page.status_code == 200
    assert "zorro" not in keeper.get(ADD).content.decode()
    assert not Token.objects.filter(user=other).exists()
    me = User.objects.get(username="staff")
    assert keeper.post(ADD, {"user": me.pk}).status_code == 302
    assert Token.objects.filter(user=me).exists()


def test_other_users_than_superusers_neither_see_nor_revoke_the_tokens_of_others(keeper, root_token):
    page = keeper.get(LIST).content.decode()
    assert "root" not in page
    assert root_token.key[:4] + "…" not in page
    for view in ("change", "delete"):
        keeper.post(f"{LIST}{root_token.user.pk}/{view}/", {"post": "yes"})
    assert is_accepted(root_token.key)


def test_the_frameworks_own_token_page_is_not_registered(client):
    assert client.get("/admin/authtoken/tokenproxy/").status_code == 404


def test_a_user_with_a_token_and_stored_responses_can_be_deleted(client, root_token):
    headers = {"Authorization": f"Token {root_token.key}", "Idempotency-Key": "k"}
    assert APIClient().post("/api/queue/hold/", headers=headers).status_code == 200
    assert client.post(f"/admin/auth/user/{root_token.user.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(username="root").exists()

"""`manage.py token`: create, list and revoke API tokens."""

import json

import pytest
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada():
    return User.objects.create_superuser("ada")


def opens(key):
    return APIClient().get("/api/queue/", headers={"Authorization": f"Token {key}"}).status_code == 200


def test_a_token_is_printed_alone_for_scripts_and_a_second_one_is_refused_unless_it_replaces_the_first(manage, ada):
    first = manage("token", "create", "ada", "--replace")
    key = Token.objects.get(user=ada).key
    assert first == (0, f"{key}\n", "")
    sentence = "ada already has a token. Revoke it and create another: --replace"
    assert manage("token", "create", "ada") == (1, "", sentence)
    assert opens(key)
    created = json.loads(manage("token", "create", "ada", "--replace", "--json").out)
    assert created.keys() == {"user", "token", "created_at"}
    assert (created["user"], opens(created["token"]), opens(key)) == ("ada", True, False)


def test_a_revoked_token_gives_no_access(manage, ada):
    key = manage("token", "create", "ada").out.strip()
    assert manage("token", "revoke", "ada") == (0, "The token of ada has been revoked.\n", "")
    assert not opens(key)
    assert manage("token", "revoke", "ada") == (1, "", "ada has no token.")


@pytest.mark.parametrize("action", ["create", "revoke"])
@pytest.mark.parametrize("name", ["nobody", "", "a\0b", "\udcff", "x" * 10_000], ids=range(5))
def test_an_unknown_user_gets_one_sentence(manage, ada, action, name):
    output = manage("token", action, name)
    assert (output.code, output.out) == (1, "")
    assert output.err.startswith("No user has the name '")
    assert output.err.endswith("Create one in the admin, or with: manage.py createsuperuser")
    assert len(output.err) < 300


def test_an_inactive_user_gets_no_token(manage, ada):
    User.objects.update(is_active=False)
    sentence = "ada is inactive: the API would refuse the token. Activate it first."
    assert manage("token", "create", "ada") == (1, "", sentence)
    assert not Token.objects.exists()


def test_the_list_names_the_users_and_never_a_token(manage, ada):
    key = manage("token", "create", "ada").out.strip()
    Token.objects.create(user=User.objects.create_user("bob", is_active=False))
    text = manage("token", "list").out
    _, first, second = (line.split() for line in text.splitlines())
    assert (first[0], first[-2:], second[-2:]) == (f"{key[:4]}…", ["yes", "ada"], ["no", "bob"])
    listed = manage("token", "list", "--json").out
    assert [(token["user"], token["is_active"]) for token in json.loads(listed)] == [("ada", True), ("bob", False)]
    assert key not in text + listed

"""`manage.py token`: made, listed and revoked."""

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


def test_a_token_is_made_and_printed_alone_for_scripts(manage, ada):
    answer = manage("token", "create", "ada")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"{Token.objects.get(user=ada).key}\n"
    assert opens(answer.out.strip())


def test_a_second_token_is_refused_unless_it_is_to_replace_the_first(manage, ada):
    first = manage("token", "create", "ada").out.strip()
    answer = manage("token", "create", "ada")
    assert (answer.code, answer.out) == (1, "")
    assert "--replace" in answer.err
    assert opens(first)
    second = manage("token", "create", "ada", "--replace").out.strip()
    assert opens(second)
    assert not opens(first)


def test_a_replacement_may_be_the_first_one(manage, ada):
    assert opens(manage("token", "create", "ada", "--replace").out.strip())


def test_a_revoked_token_opens_nothing(manage, ada):
    key = manage("token", "create", "ada").out.strip()
    assert manage("token", "revoke", "ada") == (0, "The token of ada has been revoked.\n", "")
    assert not opens(key)
    assert manage("token", "revoke", "ada") == (1, "", "ada has no token.")


@pytest.mark.parametrize("action", ["create", "revoke"])
@pytest.mark.parametrize("name", ["nobody", "", "a\0b", "\udcff", "x" * 10_000], ids=range(5))
def test_who_is_no_user_is_told_of(manage, ada, action, name):
    answer = manage("token", action, name)
    assert (answer.code, answer.out) == (1, "")
    assert "No user has the name" in answer.err
    assert "createsuperuser" in answer.err
    assert len(answer.err) < 300


def test_who_is_not_active_gets_none(manage, ada):
    User.objects.update(is_active=False)
    answer = manage("token", "create", "ada")
    assert (answer.code, answer.err) == (1, "ada is inactive: the API would refuse the token. Activate it first.")
    assert not Token.objects.exists()


def test_the_list_tells_who_has_a_token_and_never_the_token(manage, ada):
    key = manage("token", "create", "ada").out.strip()
    Token.objects.create(user=User.objects.create_user("bob", is_active=False))
    answer = manage("token", "list")
    _, first, second = answer.out.splitlines()
    assert first.split()[0] == f"{key[:4]}…"
    assert first.split()[-2:] == ["yes", "ada"]
    assert second.split()[-2:] == ["no", "bob"]
    shown = json.loads(manage("token", "list", "--json").out)
    assert [(token["user"], token["is_active"]) for token in shown] == [("ada", True), ("bob", False)]
    assert key not in answer.out + json.dumps(shown)


def test_an_empty_list_says_what_to_do(manage):
    assert "token create USER" in manage("token", "list").out
    assert json.loads(manage("token", "list", "--json").out) == []


def test_a_new_token_is_json_for_programs(manage, ada):
    made = json.loads(manage("token", "create", "ada", "--json").out)
    assert made.keys() == {"user", "token", "created_at"}
    assert opens(made["token"])

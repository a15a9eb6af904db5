"""`manage.py token`: create, list and revoke API tokens."""

import json
import re
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.test import APIClient

from batches.conf import command_line
from batches.models.api import AccessToken
from batches.tests.support.factories import api_key

pytestmark = pytest.mark.django_db

SHOW_ALL = f"Show all: {command_line('token list')}"
JSON_FIELDS = {"user", "is_active", "token", "name", "scope", "created_at", "expires_at", "last_used_at"}


@pytest.fixture
def ada():
    return User.objects.create_superuser("ada")


def opens(key):
    return APIClient().get("/api/queue/", headers={"Authorization": f"Token {key}"}).status_code == 200


def test_a_token_is_printed_alone_for_scripts_and_a_second_one_is_refused_unless_it_replaces_the_first(manage, ada):
    first = manage("token", "create", "ada", "--replace")
    key = first.out.strip()
    assert first == (0, f"{key}\n", "")
    assert re.fullmatch("batches_[A-Za-z0-9_-]{43}", key)
    sentence = "ada already has a token “default”. Choose another --name, or revoke it and create another: --replace"
    assert manage("token", "create", "ada") == (1, "", sentence)
    assert opens(key)
    other = manage("token", "create", "ada", "--name", "nightly").out.strip()
    created = json.loads(manage("token", "create", "ada", "--replace", "--json").out)
    assert created.keys() == JSON_FIELDS
    assert (created["user"], created["name"], created["scope"]) == ("ada", "default", "operate")
    assert [opens(it) for it in (created["token"], key, other)] == [True, False, True]


def test_tokens_are_revoked_one_by_one_or_all_at_once(manage, ada):
    keys = [manage("token", "create", "ada", "--name", name).out.strip() for name in ("one", "two", "three")]
    assert manage("token", "revoke", "ada", "two") == (0, "The token of ada has been revoked.\n", "")
    assert list(map(opens, keys)) == [True, False, True]
    assert manage("token", "revoke", "ada", "two") == (1, "", f"ada has no token “two”. {SHOW_ALL}")
    assert manage("token", "revoke", "ada") == (0, "The 2 tokens of ada have been revoked.\n", "")
    assert manage("token", "revoke", "ada") == (1, "", f"ada has no token. {SHOW_ALL}")
    assert list(map(opens, keys)) == [False] * 3


def test_the_name_of_a_token_is_stored_like_every_name(manage, ada):
    assert json.loads(manage("token", "create", "ada", "--name", "a\u202e  b", "--json").out)["name"] == "a b"
    assert manage("token", "revoke", "ada", "a  b").err == ""
    for name, sentence in (("", "A token needs a name"), ("\u200b", "Every character of this name is invisible")):
        assert manage("token", "create", "ada", "--name", name).err.startswith(sentence)


def test_a_token_expires_after_its_days(manage, ada):
    created = json.loads(manage("token", "create", "ada", "--days", "7", "--json").out)
    created_at, expires_at = (datetime.fromisoformat(created[field]) for field in ("created_at", "expires_at"))
    assert timedelta(days=7) <= expires_at - created_at + timedelta(seconds=1) < timedelta(days=7, seconds=2)
    assert opens(created["token"])
    AccessToken.objects.update(expires_at=timezone.now())
    assert not opens(created["token"])
    [listed] = json.loads(manage("token", "list", "--json").out)
    assert listed["is_active"] is False


@pytest.mark.parametrize("action", ["create", "revoke"])
@pytest.mark.parametrize("name", ["nobody", "", "a\0b", "\udcff", "x" * 10_000], ids=range(5))
def test_an_unknown_user_gets_one_sentence(manage, ada, action, name):
    output = manage("token", action, name)
    assert (output.code, output.out) == (1, "")
    assert output.err.startswith("No user has the name '")
    assert output.err.endswith(f"Create one in the admin, or with: {command_line('createsuperuser')}")
    assert len(output.err) < 300


def test_an_inactive_user_gets_no_token(manage, ada):
    User.objects.update(is_active=False)
    sentence = "ada is inactive: the API would refuse the token. Activate it first."
    assert manage("token", "create", "ada") == (1, "", sentence)
    assert not AccessToken.objects.exists()


def test_the_list_names_the_users_and_never_a_token(manage, ada):
    key = manage("token", "create", "ada").out.strip()
    other = api_key(User.objects.create_user("bob", is_active=False))
    text = manage("token", "list").out
    _, first, second = (line.split() for line in text.splitlines())
    assert (first[:3], first[-2:]) == ([f"{key[:12]}…", "default", "operate"], ["yes", "ada"])
    assert (second[0], second[-2:]) == (f"{other[:12]}…", ["no", "bob"])
    listed = manage("token", "list", "--json").out
    assert [(token["user"], token["is_active"]) for token in json.loads(listed)] == [("ada", True), ("bob", False)]
    assert all(token.keys() == JSON_FIELDS for token in json.loads(listed))
    assert not [secret for secret in (key, other) if secret in text + listed]

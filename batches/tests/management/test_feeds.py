"""`manage.py list feed`: create, list and revoke."""

import json
import re

import pytest
from rest_framework.test import APIClient

from batches.models import BatchLog, ListFeed
from batches.tests.support.factories import make_list

pytestmark = pytest.mark.django_db


@pytest.fixture
def people():
    return make_list("people", 2)


def test_a_feed_is_created_listed_and_revoked(manage, people):
    output = manage("list", "feed", "create", "people", "The  newsroom")
    atom, json_feed = output.out.splitlines()
    assert re.fullmatch(rf"/api/v1/lists/{people.pk}/feed\.atom\?token=feed_[\w-]{{43}}", atom)
    assert output.err == "Both are below the address of your site. They will not be shown again.\n"
    for path in (atom, json_feed):
        assert APIClient().get(path).status_code == 200
    feed = ListFeed.objects.get()
    listed = manage("list", "feed", "list").out.splitlines()
    assert re.split(r" {2,}", listed[0]) == ["list", "feed", "token", "created", "last used"]
    assert re.split(r" {2,}", listed[1])[:3] == ["people", "The newsroom", f"{feed.begins_with}…"]
    assert feed.name not in manage("list", "feed", "list", make_list("other").pk).out
    revoked = manage("list", "feed", "revoke", str(people.pk)[:8], "The newsroom")
    assert (revoked.code, revoked.out) == (0, "The feed “The newsroom” of “people” was revoked.\n")
    assert APIClient().get(atom).status_code == 404
    assert set(BatchLog.objects.filter(list=people).values_list("action", flat=True)) == {
        "create_list", "create_feed", "revoke_feed",
    }  # fmt: skip


def test_json_has_the_addresses_once(manage, people):
    made = json.loads(manage("list", "feed", "create", "people", "x", "--json").out)
    assert made["atom_url"].startswith(f"/api/v1/lists/{people.pk}/feed.atom?token=feed_")
    assert json.loads(manage("list", "feed", "list", "people", "--json").out) == [made["feed"]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["create", "people", "known"], "already has a feed “known”"),
        (["create", "people", " "], "A feed needs a name"),
        (["create", "nothing", "x"], "No list has the name or ID"),
        (["revoke", "people", "x"], "“people” has no feed “x”. Show the feeds:"),
        (["list", "nothing"], "No list has the name or ID"),
    ],
)
def test_impossible_feeds_are_refused(manage, refuse, people, arguments, sentence):
    assert manage("list", "feed", "create", "people", "known").code == 0
    assert sentence in refuse("list", "feed", *arguments)

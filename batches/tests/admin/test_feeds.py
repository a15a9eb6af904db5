"""Feeds of lists in the admin: created, shown once, and revoked."""

import re
from html import unescape

import pytest
from django.urls import reverse
from rest_framework.test import APIClient

from batches.batch_manager import BatchManager
from batches.models import BatchLog, ListFeed
from batches.tests.support.factories import make_list, unchanged

from .conftest import SCRIPT, client_with, page_of, text_of

pytestmark = pytest.mark.django_db

ADD = reverse("admin:batches_listfeed_add")


@pytest.fixture
def people():
    return make_list("people", 2)


def add(client, people, name="The newsroom"):
    return client.post(ADD, {"list": people.pk, "name": name}, follow=True)


def test_its_addresses_are_shown_once_and_work(client, people):
    page = unescape(text_of(add(client, people)))
    addresses = re.findall(r"http://testserver\S+token=feed_[\w-]{43}", page)
    assert len(addresses) == 2
    for address in addresses:
        assert APIClient().get(address).status_code == 200
    feed = ListFeed.objects.get()
    key = addresses[0].partition("token=")[2]
    for url in (page_of(people), page_of(feed), reverse("admin:batches_listfeed_changelist"), page_of(feed, "history")):
        shown = text_of(client.get(url))
        assert key not in shown
    line = BatchLog.objects.latest("pk")
    assert (line.action, line.actor, line.channel, line.list) == ("create_feed", "superuser", "admin", people)


def test_the_page_of_the_list_has_its_feeds_and_leads_to_revoking_them(client, client_of, people):
    assert BatchManager().create_feed(people.pk, SCRIPT)
    feed = ListFeed.objects.get()
    page = text_of(client.get(page_of(people)))
    assert f"{feed.begins_with}…" in page
    assert "never used" in page
    assert SCRIPT not in page
    revoke = page_of(feed, "delete")
    assert revoke in page
    assert f"{ADD}?list={people.pk}" in page
    assert f'<option value="{people.pk}" selected' in text_of(client.get(f"{ADD}?list={people.pk}"))
    client.post(revoke, {"post": "yes"})
    assert not ListFeed.objects.exists()
    assert BatchLog.objects.latest("pk").action == "revoke_feed"
    assert "Feeds of new stories" not in text_of(client_of("curator").get(page_of(people)))


@pytest.mark.parametrize("name", ["", " The  newsroom ", "\u200b"])
def test_a_name_that_cannot_be_used_is_refused(client, people, name):
    assert BatchManager().create_feed(people.pk, "The newsroom")
    with unchanged():
        page = text_of(add(client, people, name))
    assert "errornote" in page or "Every character of this name is invisible" in page


def test_its_page_links_the_list_only_for_users_who_may_view_it(client, people):
    assert BatchManager().create_feed(people.pk, "The newsroom")
    page, link = page_of(ListFeed.objects.get()), f'href="{page_of(people)}"'
    assert link in text_of(client.get(page))
    assert "people" in (shown := text_of(client_with("view_listfeed").get(page)))
    assert link not in shown

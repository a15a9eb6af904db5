"""Strangers' texts and nonsense in addresses: escaped, answered, never an error page, never a script."""

import re

import pytest
from django.urls import reverse

from batches.models import Batch, BatchLog, BatchProfile, Profile, StoryResult

from .conftest import batch_with, story, text_of

pytestmark = pytest.mark.django_db

MODELS = [Batch, Profile, BatchProfile, StoryResult, BatchLog]
models = pytest.mark.parametrize("model", MODELS)
SCRIPT = "<script>alert(1)</script>"
KEYS = ["123", "0", "-1", "0" * 32, "9" * 30, "%00", "x" * 3000, "a/b", "_5F", "%ED%A0%80", SCRIPT]
QUERIES = [
    "q=%00", "q=%ED%A0%80", "q='", 'q="', "q=%25_\\", "q=" + "x" * 5000,
    "status__exact=%00", "status=%00", "channel__exact=%00", "channel=%00", "checker=%00", "priority=%00",
    "priority=99999999999999999999", "priority=x", "last_error__isempty=%00", "batch=%00",
    "batch__id__exact=%00", "profile__id__exact=99999999999999999999", "id=%00", "name=%00", "error=%00",
    "has_story__exact=%00", "has_story__exact=7", "created_at__gte=%00", "created_at__year=999999999",
    "found_at__gte=9999999999-01-01", "o=%00", "o=99.-99", "p=%00", "p=-1", "p=99999999999999999999", "all=",
    "nonsense=1", "e=1", "_facets=True", "_changelist_filters=%00",
]  # fmt: skip
NOT_UNDER_A_STRICT_POLICY = re.compile(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", re.IGNORECASE)


def address(model, view, *args):
    return reverse(f"admin:batches_{model._meta.model_name}_{view}", args=args)


@pytest.fixture
def scripted():
    """A batch with a script in each text that somebody else has written."""
    stories = [story(SCRIPT, 'https://example.org/"><script>'), story("click me", " JavaScript:alert(1)")]
    batch = batch_with("paused", name=SCRIPT, ok=1, failed=1, stories=stories)
    Batch.objects.update(error=SCRIPT)
    Profile.objects.update(name=SCRIPT, last_error=SCRIPT)
    BatchProfile.objects.filter(status="failed").update(error=SCRIPT)
    BatchLog.objects.update(message=SCRIPT, actor=SCRIPT)
    return batch


def pages(batch):
    yield from (address(model, "changelist") for model in MODELS)
    yield from (address(model, "change", model.objects.latest("pk").pk) for model in MODELS[1:])
    yield from (address(Batch, view, batch.pk) for view in ("change", "delete", "history"))
    yield from (f"{address(BatchLog, 'changelist')}?batch={batch.pk}", address(Batch, "add"), reverse("admin:index"))


def test_strangers_texts_are_escaped_and_nothing_needs_a_script_within_the_page(client, scripted):
    for url in pages(scripted):
        html = text_of(client.get(url))
        assert SCRIPT not in html, url
        assert not NOT_UNDER_A_STRICT_POLICY.search(html.replace("JavaScript:alert(1)</div>", "")), url


def test_scripts_in_messages_are_escaped(client, scripted):
    for call in ("queue_batch", "pause_batch", "retry_failed"):
        url = reverse("admin:batches_batch_operate", args=[scripted.pk])
        html = text_of(client.post(url, {"call": call}, follow=True))
        assert "messagelist" in html
        assert SCRIPT not in html


@pytest.mark.parametrize("url", ["javascript:alert(1)", " https://x", "data:text/html,x", "//x", "", "java\tscript:x"])
def test_a_story_is_linked_only_to_a_web_page(client, url):
    batch = batch_with("paused", ok=1, stories=[story("the title", url)])
    for page in (address(Batch, "change", batch.pk), address(StoryResult, "changelist")):
        html = text_of(client.get(page))
        assert "the title" in html
        assert ">the title</a>" not in html


@pytest.mark.parametrize("url", ["https://example.org/?a=1&b=2", "HTTP://example.org"])
def test_the_link_of_a_story_tells_the_other_site_nothing(client, url):
    batch = batch_with("paused", ok=1, stories=[story("the title", url)])
    link = f'<a href="{url.replace("&", "&amp;")}" rel="noopener noreferrer nofollow">the title</a>'
    for page in (address(Batch, "change", batch.pk), address(StoryResult, "changelist")):
        assert link in text_of(client.get(page))


@models
def test_no_query_string_breaks_a_list(client, model):
    batch_with("paused", ok=1, stories=[story()])
    for query in QUERIES:
        assert client.get(f"{address(model, 'changelist')}?{query}").status_code in {200, 302, 400}, query


@models
def test_a_search_for_nul_says_what_is_wrong_with_it(client, model):
    assert "Null characters are not allowed." in text_of(client.get(address(model, "changelist"), {"q": "\0"}))


@models
@pytest.mark.parametrize("view", ["change", "delete", "history"])
def test_no_id_breaks_a_page(client, model, view):
    for key in KEYS:
        url = f"/admin/batches/{model._meta.model_name}/{key}/{view}/"
        assert client.get(url).status_code in {302, 403, 404}, key


def test_no_id_breaks_a_button(client):
    for key in KEYS:
        response = client.post(f"/admin/batches/batch/{key}/operate/", {"call": "queue_batch"})
        assert response.status_code in {302, 404}, key

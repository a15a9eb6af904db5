"""Scripts in texts and nonsense in addresses: everything is escaped, and no request fails."""

import re

import pytest
from django.urls import reverse

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, BatchProfile, Profile, Queue, StoryResult, Webhook, WebhookDelivery

from .conftest import (
    QUEUE,
    QUEUE_LIVE,
    SCRIPT,
    act,
    act_in_queue,
    address,
    batch_with,
    page_of,
    press,
    story,
    text_of,
)

pytestmark = pytest.mark.django_db

MODELS = [Batch, Profile, BatchProfile, StoryResult, BatchLog, Webhook, WebhookDelivery]
models = pytest.mark.parametrize("model", MODELS)
KEYS = ["123", "0", "-1", "0" * 32, str(2**63), "9" * 400, "%00", "x" * 3000, "a/b", "_5F", "%ED%A0%80", SCRIPT]
QUERIES = [
    "q=%00", "q=%ED%A0%80", "q='", 'q="', "q=%25_\\", "q=" + "x" * 5000,
    "status__exact=%00", "status=%00", "channel__exact=%00", "channel=%00", "checker=%00", "priority=%00",
    "priority=99999999999999999999", "priority=x", "last_error__isempty=%00", "batch=%00",
    "batch__id__exact=%00", "profile__id__exact=99999999999999999999", "id=%00", "name=%00", "error=%00",
    "has_story__exact=%00", "has_story__exact=7", "created_at__gte=%00", "created_at__year=999999999",
    "found_at__gte=9999999999-01-01", "o=%00", "o=99.-99", "p=%00", "p=-1", "p=99999999999999999999", "all=",
    "state=%00", "type__exact=%00", "webhook__id__exact=99999999999999999999",
    "nonsense=1", "e=1", "_facets=True", "_changelist_filters=%00",
]  # fmt: skip
NOT_UNDER_A_STRICT_POLICY = re.compile(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", re.IGNORECASE)


@pytest.fixture
def scripted():
    """A batch with a script in each text that somebody else writes; others like it are in each status."""
    Webhook.objects.create(name=SCRIPT, url="https://example.org/hook")
    stories = [story(SCRIPT, 'https://example.org/"><script>'), story("click me", " JavaScript:alert(1)")]
    batch = batch_with("paused", name=SCRIPT, ok=1, failed=1, stories=stories)
    BatchManager(SCRIPT).repeat_batch(batch.pk)
    for status in ("queued", "error", "done", "running"):
        batch_with(status, name=SCRIPT, failed=1)
    BatchManager(SCRIPT).hold_queue(SCRIPT)
    BatchManager(SCRIPT).move_batch(Batch.objects.get(position=2).pk, 1)
    Batch.objects.update(error=SCRIPT)
    Profile.objects.update(name=SCRIPT, last_error=SCRIPT)
    BatchProfile.objects.filter(status="failed").update(error=f'{SCRIPT}"')
    WebhookDelivery.objects.update(error=SCRIPT, payload=SCRIPT)
    BatchLog.objects.exclude(action="move_batch").update(message=SCRIPT, actor=SCRIPT)
    return batch


def pages(client, batch):
    query = {"q": SCRIPT, "move": Batch.objects.get(position=2).pk, "to": 1, "version": Queue.objects.get().version}
    urls = [address(model, "changelist") for model in MODELS]
    urls += [address(model, "change", model.objects.latest("pk").pk) for model in MODELS[1:]]
    urls += [page_of(each, name) for each in (batch, batch.repeats.get()) for name in ("change", "live", "details")]
    urls += [page_of(batch, "delete"), page_of(batch, "history"), address(Batch, "add"), reverse("admin:index"), QUEUE]
    hook = Webhook.objects.get().pk
    urls += [address(Webhook, "add"), address(Webhook, "delete", hook), address(Webhook, "history", hook)]
    for url in urls:
        yield client.get(url)
    for url in (QUEUE, QUEUE_LIVE):
        yield client.get(url, query)
    for model in (BatchProfile, StoryResult, BatchLog, WebhookDelivery):
        yield client.get(address(model, "changelist"), {"batch": batch.pk})
    yield act(client, "delete_selected", batch)
    yield act_in_queue(client, "delete_batch", batch)
    yield act_in_queue(client, "retry_failed", all="queued")
    chosen = {"action": "check_selected", "_selected_action": Profile.objects.latest("pk").pk, "select_across": "1"}
    response = client.post(f"{address(Profile, 'changelist')}?q=script", chosen)
    assert "will be checked" in text_of(response)
    yield response
    for call in ("queue_batch", "pause_batch", "retry_failed"):
        response = press(client, call, batch)
        assert "messagelist" in text_of(response)
        yield response


def test_texts_are_escaped_and_no_page_needs_a_script_within_it(client, scripted):
    for response in pages(client, scripted):
        html = text_of(response)
        assert SCRIPT not in html, response.request
        assert not NOT_UNDER_A_STRICT_POLICY.search(html.replace("JavaScript:alert(1)</div>", "")), response.request


@pytest.mark.parametrize(
    ("url", "is_linked"),
    [
        *(
            (url, False)
            for url in ("javascript:alert(1)", " https://x", "data:text/html,x", "//x", "", "java\tscript:x")
        ),
        ("https://example.org/?a=1&b=2", True),
        ("HTTP://example.org", True),
    ],
)
def test_a_story_is_linked_only_to_a_web_address_which_learns_nothing_of_us(client, url, is_linked):
    batch = batch_with("paused", ok=1, stories=[story("the title", url)])
    link = f'<a href="{url.replace("&", "&amp;")}" rel="noopener noreferrer nofollow">the title</a>'
    for page in (page_of(batch), address(StoryResult, "changelist")):
        html = text_of(client.get(page))
        assert "the title" in html
        assert (link in html) is (">the title</a>" in html) is is_linked


@pytest.mark.slow
@models
def test_no_query_string_breaks_a_list(client, model):
    batch_with("paused", ok=1, stories=[story()])
    for query in QUERIES:
        assert client.get(f"{address(model, 'changelist')}?{query}").status_code in {200, 302, 400}, query
    assert "Null characters are not allowed." in text_of(client.get(address(model, "changelist"), {"q": "\0"}))


@pytest.mark.parametrize("name", ["q", "p", "move", "to", "version"])
def test_no_query_string_breaks_the_queue_page(client, name):
    batch = batch_with()
    for value in ("\0", "%", "'", '"', "x" * 5000, "-1", "9" * 5000, "1e3", SCRIPT, "?"):
        query = {"move": batch.pk, "to": "1", "version": Queue.objects.get().version} | {name: value}
        assert client.get(QUEUE_LIVE, query).status_code == 200, value


@models
@pytest.mark.parametrize("view", ["change", "delete", "history"])
def test_no_id_breaks_a_page(client, model, view):
    for key in KEYS:
        url = f"/admin/batches/{model._meta.model_name}/{key}/{view}/"
        assert client.get(url).status_code in {302, 403, 404}, key


@pytest.mark.parametrize("model", ["batch", "webhook", "webhookdelivery"])
def test_no_id_breaks_a_button(client, model):
    for key in KEYS:
        response = client.post(f"/admin/batches/{model}/{key}/operate/", {"call": "queue_batch"})
        assert response.status_code in {302, 404}, key

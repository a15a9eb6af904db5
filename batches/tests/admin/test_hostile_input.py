"""Nonsense in addresses: no request fails, and no page repeats it as markup. Other texts are tested in a browser."""

from itertools import product, starmap
from urllib.parse import urlencode

import pytest

from batches.models import Host, StoryResult

from .conftest import (
    MODELS,
    QUEUE,
    QUEUE_LIVE,
    SCRIPT,
    address,
    batch_with,
    names_of_addresses,
    page_of,
    story,
    text_of,
)

pytestmark = pytest.mark.django_db

models = pytest.mark.parametrize("model", MODELS)
#: The models take turns: each gets every third text.
steps = pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.exhaustive)])
KEYS = ["123", "0", "-1", "0" * 32, str(2**63), "9" * 400, "%00", "x" * 3000, "a/b", "_5F", "%ED%A0%80", SCRIPT]
QUERIES = [
    "q=%00", "q=%ED%A0%80", "q='", 'q="', "q=%25_\\", "q=" + "x" * 5000,
    "status__exact=%00", "status=%00", "channel__exact=%00", "channel=%00", "checker=%00", "priority=%00",
    "priority=99999999999999999999", "priority=x", "last_error__isempty=%00", "batch=%00", "list=%00",
    "batch__id__exact=%00", "profile__id__exact=99999999999999999999", "id=%00", "name=%00", "error=%00",
    "has_story__exact=%00", "has_story__exact=7", "created_at__gte=%00", "created_at__year=999999999",
    "created_at__gte=9999-12-31T23:59-12:00", "created_at__lt=0001-01-01T00:00%2B12:00",
    "found_at__gte=9999999999-01-01", "o=%00", "o=99.-99", "p=%00", "p=-1", "p=99999999999999999999", "all=",
    "state=%00", "subscription=%00", "type__exact=%00", "webhook__id__exact=99999999999999999999",
    "nonsense=1", "e=1", "_facets=True", "_changelist_filters=%00",
]  # fmt: skip
#: No part of it may be in a page as it is.
MARKUP = "q\"q w'w x<x"
#: What a page may repeat of its address.
REPEATED = ("q", "host", "batch", "list", "error", "status__exact", "checker", "e", "o", "_changelist_filters")
QUERIES += [urlencode({name: MARKUP}) for name in REPEATED]


def has_markup(response):
    return any(part in response.content.decode() for part in MARKUP.split())


LINKED = ("https://example.org/?a=1&b=2", "HTTP://example.org")
NOT_LINKED = ("javascript:alert(1)", " https://x", "data:text/html,x", "//x", "", "java\tscript:x")


def test_a_story_is_linked_only_to_a_web_address_which_learns_nothing_of_us(client):
    urls = {f"title {number}": url for number, url in enumerate(LINKED + NOT_LINKED)}
    batch = batch_with("paused", ok=1, stories=list(starmap(story, urls.items())))
    for page in (page_of(batch), address(StoryResult, "changelist")):
        html = text_of(client.get(page))
        for title, url in urls.items():
            link = f'<a href="{url.replace("&", "&amp;")}" rel="noopener noreferrer nofollow">{title}</a>'
            assert title in html
            assert (link in html) is (f">{title}</a>" in html) is (url in LINKED), (page, url)


@pytest.mark.slow
@models
@steps
def test_no_query_string_breaks_a_list(client, model, step):
    batch_with("paused", ok=1, stories=[story()])
    for query in QUERIES[MODELS.index(model) % step :: step]:
        response = client.get(f"{address(model, 'changelist')}?{query}")
        assert response.status_code in {200, 302, 400}, query
        assert not has_markup(response), query
    if model is not Host:  # its page has no form of Django's
        assert "Null characters are not allowed." in text_of(client.get(address(model, "changelist"), {"q": "\0"}))


PARAMETERS = ["q", "p", "move", "from", "to", "by", "passed"]
VALUES = [MARKUP, "\0", "%", "x" * 5000, "-1", "9" * 5000, "1e3", "?"]


@steps
def test_no_query_string_breaks_the_queue_page(client, step):
    batch = batch_with()
    for name, value in [*product(PARAMETERS, VALUES)][::step]:
        query = {"move": batch.pk, "from": "1", "to": "1", name: value}
        assert not has_markup(client.get(QUEUE, query)), query
        assert client.get(QUEUE_LIVE, query).status_code == 200, query
        assert client.post(f"{QUEUE}move/{batch.pk}/?{urlencode(query)}").status_code == 302, query


#: The views of a row, by the end of their names.
VIEWS = {name: name for name in ("change", "delete", "history", "operate", "import", "run")} | {"export": "export/csv"}


@models
@steps
def test_no_id_breaks_a_page_or_a_button(client, model, step):
    name = model._meta.model_name
    views = [path for view, path in VIEWS.items() if f"batches_{name}_{view}" in names_of_addresses()]
    for key, view in product(KEYS[MODELS.index(model) % step :: step], views):
        url = f"/admin/batches/{name}/{key}/{view}/"
        assert client.get(url).status_code in {302, 403, 404, 405}, url
        assert client.post(url, {"call": "queue_batch"}).status_code in {302, 403, 404, 405}, url

"""Long and slow searches: the user gets a message, and nobody else waits."""

from contextlib import nullcontext, suppress

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection, transaction
from django.test import Client

from batches.tests.support.tables import run_sql
from batches.web import search
from batches.web.search import SearchTooSlow, limited_search

pytestmark = pytest.mark.django_db

WORDS = "a b c d e f g h i j"
NUMBERS = "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number"
SLOW = {
    "sqlite": f"{NUMBERS}) SELECT count(*) FROM number",
    "postgresql": "SELECT pg_sleep(600)",
}
ADMIN_LISTS = ["batch", "profilelist", "listprofile", "profile", "batchprofile", "storyresult", "batchlog"]
ADMIN_LISTS += ["webhook", "webhookdelivery"]

#: The texts of searches, and the messages about them.
TEXTS = {
    WORDS: None,
    f"{WORDS} k": "Search for at most 10 words.",
    "x" * 200: None,
    "x" * 201: "Ensure this value has at most 200 characters (it has 201).",
}


@pytest.fixture
def client():
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def slow_searches(monkeypatch):
    """Every query with LIKE takes minutes, and a search can take 50 ms."""
    monkeypatch.setattr(search, "SEARCH_SECONDS", 0.05)

    def slow_down(execute, sql, parameters, many, context):
        if "LIKE" in sql:
            sql, parameters = SLOW[connection.vendor], None
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(slow_down):
        yield


def test_the_api_searches_for_ten_words_and_200_characters(client):
    for text, message in TEXTS.items():
        response = client.get("/api/v1/profiles/", {"search": text})
        if message is None:
            assert response.status_code == 200, text
        else:
            assert response.status_code == 400, text
            assert response.json()["errors"] == {"search": [message]}


@pytest.mark.parametrize("model", ADMIN_LISTS)
def test_the_admin_searches_for_ten_words_and_200_characters(client, model):
    for text, message in TEXTS.items():
        response = client.get(f"/admin/batches/{model}/", {"q": text}, follow=True)
        assert response.status_code == 200, text
        assert [str(it) for it in response.context["messages"]] == ([] if message is None else [message])


@pytest.mark.django_db(transaction=True)
def test_a_slow_search_ends_after_its_time_with_a_message(client, slow_searches):
    response = client.get("/api/v1/profiles/?search=x")
    message = "The search took too long. Search for fewer words, or add a filter."
    assert (response.status_code, response.json()["errors"]) == (400, {"search": [message]})
    response = client.get("/admin/batches/profile/?q=x", follow=True)
    assert (response.status_code, [str(it) for it in response.context["messages"]]) == (200, [message])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("request_in", [nullcontext, transaction.atomic])  # with ATOMIC_REQUESTS: a transaction
@pytest.mark.parametrize("ending", ["SELECT 1", "slow"])
def test_what_follows_a_search_is_not_limited(monkeypatch, ending, request_in):
    monkeypatch.setattr(search, "SEARCH_SECONDS", 0.01)
    with request_in():
        with suppress(SearchTooSlow), limited_search():
            run_sql(SLOW[connection.vendor] if ending == "slow" else ending)
        assert run_sql(f"{NUMBERS} WHERE n < 1000000) SELECT max(n) FROM number") == [(1_000_000,)]


def test_another_fault_within_a_search_stays_what_it_is():
    with pytest.raises(OperationalError, match="the disk is full"), limited_search():
        raise OperationalError("the disk is full")

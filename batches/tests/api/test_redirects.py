"""Permanent redirects: the list, and accepting some by id or all at a host, with the outcome of each."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from batches.api import idempotency
from batches.models import BatchLog, Profile, Redirect
from batches.models.public_fields import REDIRECT, as_dict
from batches.tests.support.factories import propose_redirect

from .conftest import nothing_changes, validator

pytestmark = pytest.mark.django_db

OLD, NEW, KNOWN = "https://old.example/", "https://new.example/", "https://known.example/"


@pytest.fixture
def proposed():
    Profile.objects.create(url=KNOWN)
    propose_redirect("https://recent.example/", NEW, checks=1)
    return [propose_redirect(OLD, NEW), propose_redirect(f"{OLD}b", KNOWN)]


def accept(client, **body):
    answer = client.post("/api/v1/redirects/accept/", body)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_the_list_has_the_redirects_that_can_be_accepted(client, proposed):
    found = client.get("/api/v1/redirects/").json()["results"]
    assert [(each["old_url"], each["url"], each["merges"]) for each in found] == [
        (OLD, NEW, False),
        (f"{OLD}b", KNOWN, True),
    ]
    assert set(found[0]) == set(as_dict(Redirect.objects.proposed()[0], REDIRECT))
    for query, count in {"host=old.example": 2, "host=other.example": 0, "search=known": 1}.items():
        assert len(client.get(f"/api/v1/redirects/?{query}").json()["results"]) == count


def test_each_is_accepted_or_refused_with_the_reason(client, proposed, described):
    first, second = proposed
    profile = first.profile_id
    made = accept(client, ids=[second.pk, 999, first.pk, second.pk])
    assert (made["done"], made["refused"], made["left"]) == (2, 1, 0)
    validator(described, {"$ref": "#/components/schemas/Accepted"}).validate(made)
    merged, missing, moved = made["outcomes"]
    target = Profile.objects.get(url=KNOWN).pk
    nothing = {"code": None, "detail": ""}
    assert merged == nothing | {
        "id": second.pk, "profile": target, "old_url": f"{OLD}b", "url": KNOWN, "merged": True,
    }  # fmt: skip
    assert moved == nothing | {"id": first.pk, "profile": profile, "old_url": OLD, "url": NEW, "merged": False}
    assert (missing["id"], missing["code"], missing["url"]) == (999, "not_found", None)
    assert missing["detail"] == "No proposed redirect has the ID '999'."
    assert BatchLog.objects.filter(action="accept_redirect", channel="api").count() == 2


def test_a_dry_run_reports_the_effects_of_all_matches_and_changes_nothing(client, proposed):
    elsewhere = propose_redirect("https://elsewhere.example/", "https://moved.example/")
    with nothing_changes():
        plan = accept(client, all=True, host="old.example", dry_run=True)
    assert [(each["old_url"], each["merged"]) for each in plan["outcomes"]] == [(OLD, False), (f"{OLD}b", True)]
    assert accept(client, all=True, host="old.example") == plan
    assert list(Redirect.objects.proposed()) == [elsewhere]


def test_a_request_accepts_a_thousand_at_most(client, proposed, monkeypatch):
    monkeypatch.setattr("batches.api.redirects.MAX_BULK", 1)
    assert accept(client, all=True)["left"] == 1
    assert accept(client, all=True)["left"] == 0
    assert accept(client, all=True) == {"done": 0, "refused": 0, "left": 0, "outcomes": []}


@pytest.mark.django_db(transaction=True)
def test_with_a_key_a_few_at_a_time_are_accepted_in_a_transaction(client, proposed, monkeypatch):
    """Each merge locks the leases, so that no result is recorded until its transaction ends."""
    monkeypatch.setattr(idempotency, "STEP", 1)
    path, body, headers = "/api/v1/redirects/accept/", {"all": True}, {"Idempotency-Key": "k"}
    with CaptureQueriesContext(connection) as captured:
        first = client.post(path, body, headers=headers)
    transactions = "".join(query["sql"] for query in captured).split("COMMIT")
    changes = [sqls.count('INSERT INTO "batches_batchlog"') for sqls in transactions]
    assert [number for number in changes if number] == [1, 1]
    assert first.json()["done"] == 2
    assert client.post(path, body, headers=headers).content == first.content

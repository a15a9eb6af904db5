"""Profiles that rest after many failures: listed with their memory, and checked now, by id or all that rest.

One profile is shown, and forgotten.
"""

from datetime import timedelta

import pytest
from django.utils import timezone

from batches.models import Batch, BatchLog, Profile
from batches.models.public_fields import PROFILE, as_dict
from batches.tests.support.factories import make_batch, urls, urls_of

from .conftest import make_user, nothing_changes, refusal_of, token_client

pytestmark = pytest.mark.django_db

CHECK = "/api/v1/profiles/check/"


@pytest.fixture
def resting():
    """Two profiles that rest, one that fails, one that has rested, and one that answers."""
    now = timezone.now()
    memory = {"failures": 3, "failing_since": now - timedelta(days=9), "last_error": "It is gone."}
    later, earlier = now + timedelta(days=1), now - timedelta(seconds=1)
    made = [Profile.objects.create(url=f"https://{host}/", rests_until=later, **memory) for host in ("a.one", "b.two")]
    Profile.objects.create(url="https://c.one/", **memory)
    Profile.objects.create(url="https://d.one/", rests_until=earlier, **memory)
    Profile.objects.create(url="https://e.one/")
    return made


def test_they_are_listed_with_their_memory(client, resting):
    found = client.get("/api/v1/profiles/?resting=true").json()["results"]
    assert [row["id"] for row in found] == [profile.pk for profile in resting]
    assert found[0].keys() == as_dict(resting[0], PROFILE).keys()
    assert (found[0]["failures"], found[0]["last_error"], found[0]["first_read_at"]) == (3, "It is gone.", None)
    others = client.get("/api/v1/profiles/?resting=false").json()["results"]
    assert [row["url"] for row in others] == [f"https://{letter}.one/" for letter in "cde"]


@pytest.mark.parametrize(
    ("body", "hosts", "name"),
    [
        ({"all": True}, ["a.one", "b.two"], "Check now"),
        ({"all": True, "host": "b.two", "name": "Back?", "priority": 3, "checker": "http"}, ["b.two"], "Back?"),
    ],
)
def test_all_that_rest_are_checked_in_a_new_batch(client, resting, body, hosts, name):
    answer = client.post(CHECK, body)
    assert answer.status_code == 201, answer.content
    batch = Batch.objects.get()
    assert answer.json()["id"] == str(batch.pk)
    assert answer["Location"].endswith(f"/api/v1/batches/{batch.pk}/")
    assert urls_of(batch) == [f"https://{host}/" for host in hosts]
    assert (batch.name, batch.status, batch.priority) == (name, "queued", body.get("priority", 0))
    assert batch.checker == body.get("checker", "feed")


def test_any_profile_is_checked_by_its_id(client, resting):
    ids = [Profile.objects.get(url="https://e.one/").pk, resting[0].pk]
    assert client.post(CHECK, {"ids": [*ids, 10**9]}).status_code == 201
    assert urls_of(Batch.objects.get()) == ["https://a.one/", "https://e.one/"]


def test_a_repetition_gets_the_first_response_when_no_profile_rests_any_more(client, resting):
    key = {"Idempotency-Key": "check-all"}
    first = client.post(CHECK, {"all": True}, headers=key)
    Profile.objects.update(rests_until=None)
    again = client.post(CHECK, {"all": True}, headers=key)
    assert (again.status_code, again.content) == (201, first.content)


def test_without_a_profile_no_batch_is_created(client, resting):
    with nothing_changes():
        assert refusal_of(client.post(CHECK, {"all": True, "host": "e.one"})) == (404, "not_found")


def test_checking_all_that_rest_needs_the_permission_to_view_profiles(resting):
    client = token_client(make_user("add_batch"))
    with nothing_changes():
        assert refusal_of(client.post(CHECK, {"all": True})) == (403, "permission_denied")
    assert client.post(CHECK, {"ids": [resting[0].pk]}).status_code == 201


@pytest.mark.django_db(transaction=True)
def test_a_profile_is_shown_forgotten_and_then_unknown(client):
    make_batch("it", 2)
    profile = Profile.objects.get(url=urls(1)[0])
    address = f"/api/v1/profiles/{profile.pk}/"
    assert client.get(address).json() == client.get("/api/v1/profiles/").json()["results"][0]
    assert client.delete(address).status_code == 204
    assert client.get("/api/v1/batches/").json()["results"][0]["total_profiles"] == 1
    line = BatchLog.objects.latest("pk")
    assert (line.actor, line.channel, line.batch) == ("root", "api", None)
    for answer in (client.get(address), client.delete(address)):
        assert refusal_of(answer) == (404, "not_found")

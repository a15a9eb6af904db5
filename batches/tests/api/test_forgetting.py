"""A profile, and forgetting it."""

import pytest

from batches.models import BatchLog, Profile
from batches.tests.support.factories import make_batch, urls

from .conftest import refusal_of

pytestmark = pytest.mark.django_db(transaction=True)


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

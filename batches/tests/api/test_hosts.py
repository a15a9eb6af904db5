"""The hosts that fail most."""

import pytest
from django.utils import timezone

from batches.models import Profile
from batches.models.public_fields import HOST

pytestmark = pytest.mark.django_db


def test_the_hosts_that_fail_most_come_first_with_the_fields_of_the_command(client):
    now = timezone.now()
    for url in ("https://b.example/1", "https://b.example/2", "https://a.example/"):
        Profile.objects.create(
            url=url, last_error="Gone.", failures=1, failing_since=now, last_checked_at=now, last_duration=2.0
        )
    Profile.objects.create(url="https://fine.example/")
    found = client.get("/api/v1/hosts/").json()
    assert (found["total"], [each["host"] for each in found["results"]]) == (2, ["b.example", "a.example"])
    assert tuple(found["results"][0]) == HOST
    for limit in ("1", "1.0"):
        found = client.get(f"/api/v1/hosts/?limit={limit}").json()
        assert (found["total"], len(found["results"])) == (2, 1)
    [fine] = client.get("/api/v1/hosts/?search=fine.example").json()["results"]
    assert (fine["profiles"], fine["failing"], fine["failing_percent"], fine["last_error"]) == (1, 0, 0.0, "")
    for query in ("limit=0", "limit=101", "limit=x", "search=", "order=name"):
        assert client.get(f"/api/v1/hosts/?{query}").status_code == 400, query

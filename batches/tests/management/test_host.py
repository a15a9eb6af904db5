"""`manage.py host`: the hosts that fail most."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from batches.models import Host, Profile

pytestmark = pytest.mark.django_db


@pytest.fixture
def profiles():
    now = timezone.now()
    failure = {"last_error": "It\x1b[2J answers with 500.", "failures": 1, "failing_since": now}
    checked = {"last_checked_at": now, "last_duration": 1.5}
    for url in ("https://b.example/1", "https://b.example/2", "https://a.example:8080/"):
        Profile.objects.create(url=url, **failure, **checked)
    Profile.objects.create(url="https://b.example/3", **checked)
    Profile.objects.create(url="https://fine.example/", **checked)
    Host.objects.create(name="a.example", not_before=now + timedelta(hours=1))


def test_the_hosts_that_fail_most_come_first(manage, profiles):
    lines = manage("host", "list").out.splitlines()
    assert lines[0].split()[:3] == ["host", "profiles", "failing"]
    assert lines[1].split()[:7] == ["b.example", "3", "2", "66.7", "%", "1.50", "s"]
    assert lines[1].endswith("It [2J answers with 500.")
    assert lines[2].startswith("a.example:8080  1         1        100.0 %")
    assert manage("host", "list", "--limit", "1").out.endswith("and 1 more; show all with --limit\n")
    [fine] = json.loads(manage("host", "list", "--json", "--search", "fine.example").out)
    assert (fine["host"], fine["failing"], fine["paused_until"]) == ("fine.example", 0, None)
    for nothing in ("no", "\udcffno"):
        assert manage("host", "list", "--search", nothing).out == "No failing host has this in its name.\n"

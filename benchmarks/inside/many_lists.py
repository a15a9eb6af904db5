"""A thousand lists with a million profiles: queueing what is due, and the time to render their pages."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import Batch, Profile, ProfileList
from batches.queue.contents import collect_names, insert_profiles
from batches.queue.sql import MEMBER, PROFILE, execute, uuid_parameter
from benchmarks.lists import addresses

from .locks import waits_while
from .pages import depths, seconds_of

manager = BatchManager(actor="benchmark")


def measure(lists: int, profiles: int) -> dict[str, float]:
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_superuser("operator"))
    big = fill(lists, profiles)
    manager.create_batch("Others", list(addresses(1)))
    figures = fire(lists, profiles)
    pages = {f"{name}, ms": 1000 * seconds_of(client, path) for name, path in pages_of(big, profiles).items()}
    return figures | pages | {"slowest page, ms": max(pages.values())}


def fill(lists: int, profiles: int) -> ProfileList:
    """Lists that are due, each with its share of the profiles, and one with all of them that is not."""
    insert_profiles(collect_names(addresses(profiles)))
    found = ProfileList.objects.bulk_create(
        ProfileList(name=f"List {number}", schedule="0 6 * * *", next_run_at=timezone.now(), total_profiles=share)
        for number, share in enumerate([profiles // lists] * lists)
    )
    last = 0
    for each in found:
        last = add_members(each, last, profiles // lists)
    big = ProfileList.objects.create(name="Big", total_profiles=profiles)
    add_members(big, 0, profiles)
    if connection.vendor == "postgresql":
        execute("ANALYZE", [])
    return big


def add_members(found: ProfileList, after: int, count: int) -> int:
    """The next profiles. Returns the last one."""
    execute(
        f"""INSERT INTO {MEMBER} (list_id, profile_id)
            SELECT %s, id FROM (SELECT id FROM {PROFILE} WHERE id > %s ORDER BY id LIMIT %s) AS profile ORDER BY id""",
        [uuid_parameter(found.pk), after, count],
    )
    last = found.profiles.order_by("-pk").values_list("profile_id", flat=True)[0]
    return int(last)


def fire(lists: int, profiles: int) -> dict[str, float]:
    started = time.perf_counter()
    with CaptureQueriesContext(connection) as captured:
        waits = waits_while(lambda: len(manager.queue_due_lists()) == lists)
    seconds = time.perf_counter() - started
    assert Batch.objects.queued().count() == lists + 1
    assert Profile.objects.count() == profiles
    return {
        "s to queue what is due": seconds,
        "statements": len(captured),
        "longest wait, ms": 1000 * max(waits),
        "usual wait, ms": 1000 * median(waits),
    }


def pages_of(big: ProfileList, profiles: int) -> dict[str, str]:
    members: Any = big.profiles.order_by("pk")
    return {
        "admin: lists": "/admin/batches/profilelist/",
        "admin: list": f"/admin/batches/profilelist/{big.pk}/change/",
        "admin: profiles of a list": f"/admin/batches/listprofile/?list={big.pk}",
        "admin: run of a list": f"/admin/batches/batch/{Batch.objects.filter(name='List 0')[0].pk}/change/",
        "API: lists": "/api/v1/lists/",
        "API: list": f"/api/v1/lists/{big.pk}/",
        **depths("API: profiles of a list", f"/api/v1/lists/{big.pk}/profiles/", members, profiles),
        "API: runs of a list": f"/api/v1/batches/?list={big.pk}",
    }

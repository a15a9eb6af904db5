"""The queries and the CPU time of each page of the admin, with a long queue, many lists and many profiles.

The process renders the pages itself: no web server and no network. It keeps what it finds in the database, so that
pages can be measured again after a change.
"""

import time
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Host, Profile, ProfileList, Redirect, Webhook
from batches.queue.sql import MEMBER, PROFILE, ROW, STORY, execute, format_time, time_parameter, uuid_parameter
from batches.web.stack import with_room_on_stack
from benchmarks.inside.pages import CHUNK, fill_queue
from benchmarks.lists import addresses

REPEATS = 3
#: A part of the profiles is at one platform, the others are at hosts with this many each.
PLATFORM_SHARE, PROFILES_OF_A_HOST = 5, 10
#: One in FAILING profiles fails, for one of REASONS reasons.
FAILING, REASONS = 20, 25
#: One in NEWS profiles has a new story in each run.
NEWS = 50

manager = BatchManager(actor="benchmark")


def measure(waiting: int, lists: int, profiles: int) -> dict[str, float]:
    if not User.objects.exists():
        fill(waiting, lists, profiles)
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.get(username="operator"))
    figures = {}
    for name, path in pages():
        with CaptureQueriesContext(connection) as captured:
            client.get(path)
        figures[f"{name}: queries"] = float(len(captured))
        figures[f"{name}: ms of CPU"] = 1000 * least(client, path)
    slowest = max(value for name, value in figures.items() if name.endswith("CPU"))
    return figures | {"slowest page, ms of CPU": slowest}


@with_room_on_stack  # as the server does
def least(client: Client, path: str) -> float:
    """The minimum CPU time of some requests, in this process and in the server's.

    Unlike elapsed time, it ignores other load.
    """
    seconds = []
    for _ in range(REPEATS):
        started = cpu_seconds()
        response = client.get(path)
        seconds.append(cpu_seconds() - started)
        assert response.status_code == 200, (path, response.status_code)
    return min(seconds)


def cpu_seconds() -> float:
    """The CPU time of this process and of its PostgreSQL backend, which is on this machine."""
    if connection.vendor != "postgresql":
        return time.process_time()
    nanoseconds = Path(f"/proc/{backend()}/schedstat").read_text().split()[0]
    return time.process_time() + int(nanoseconds) / 1e9


@cache
def backend() -> int:
    """Without helpers: their time would not count."""
    with connection.cursor() as cursor:
        cursor.execute("SET max_parallel_workers_per_gather = 0")
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


# The rows


def fill(waiting: int, lists: int, profiles: int) -> None:
    with transaction.atomic():
        fill_profiles(profiles)
    found = ProfileList.objects.bulk_create(
        ProfileList(name=f"List {number}", schedule="0 6 * * *", total_profiles=profiles // lists)
        for number in range(lists)
    )
    now = timezone.now()
    for days in (1, 0):
        run_lists(found, profiles // lists, now - timedelta(days=days, minutes=1))
    fill_queue(waiting)
    start_one()
    fill_others(lists)
    if connection.vendor == "postgresql":
        execute("VACUUM ANALYZE", [])
    else:
        execute("ANALYZE", [])
    User.objects.create_superuser("operator")


def fill_profiles(profiles: int) -> None:
    now, day = timezone.now(), timedelta(days=1)
    failing = f"(number + number / {FAILING}) %% {FAILING} = 0"  # at the platform and at other hosts
    execute(
        f"""INSERT INTO {PROFILE} (url, name, feed_url, etag, last_modified, fingerprint, last_checked_at, last_error,
                                   last_story_at, first_read_at, failures, failing_since, recovered_from, created_at)
            WITH RECURSIVE numbers (number) AS (
                SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < %s
            )
            SELECT CASE WHEN number %% {PLATFORM_SHARE} = 0 THEN 'https://platform.example/feeds/'
                        ELSE 'https://host-' || (number / {PROFILES_OF_A_HOST}) || '.example/' END || number || '.xml',
                   'Profile ' || number, '', 'W/"0123456789abcdef"', 'Sun, 29 Nov 2026 06:00:00 GMT',
                   '0123456789abcdef0123456789abcdef', {time_parameter()},
                   CASE WHEN {failing} THEN 'The server answers with ' || (400 + number / {FAILING} %% {REASONS}) || '.'
                        ELSE '' END,
                   {time_parameter()}, {time_parameter()},
                   CASE WHEN {failing} THEN 2 ELSE 0 END,
                   CASE WHEN {failing} THEN {time_parameter()} END, 0, {time_parameter()}
              FROM numbers""",
        [profiles, *map(format_time, (now, now, now - 30 * day, now - day, now - 30 * day))],
    )


def run_lists(found: list[ProfileList], share: int, ended: Any) -> None:
    """A run of each list that ended then, with its rows and new stories."""
    failed, stories = share // FAILING, share // NEWS
    counters = {
        "total_profiles": share,
        "completed_profiles": share,
        "successful_checks": share - failed,
        "failed_checks": failed,
        "stories_found": stories,
        "run_seconds": 60.0,
    }
    times = {"created_at": ended, "started_at": ended - timedelta(minutes=1), "completed_at": ended}
    previous = {run.list_id: run for run in Batch.objects.filter(list__isnull=False)}
    runs = Batch.objects.bulk_create(
        Batch(name=each.name, list=each, status=Batch.Status.DONE, previous=previous.get(each.pk), **counters, **times)
        for each in found
    )
    first = Profile.objects.order_by("pk")[0].pk
    with transaction.atomic():
        for number, run in enumerate(runs):
            add_rows(run, first + number * share, share, ended, is_first=not previous)


def add_rows(run: Batch, first: int, share: int, ended: Any, is_first: bool) -> None:
    between = [first, first + share - 1]
    if is_first:
        execute(
            f"INSERT INTO {MEMBER} (list_id, profile_id) SELECT %s, id FROM {PROFILE} WHERE id BETWEEN %s AND %s",
            [uuid_parameter(run.list_id or run.pk), *between],
        )
    execute(
        f"""INSERT INTO {ROW} (batch_id, profile_id, status, error, http_status, duration, has_story, checked_at)
            SELECT %s, id, CASE WHEN last_error = '' THEN 'ok' ELSE 'failed' END, last_error, 200, 0.1 + id %% 7, false,
                   {time_parameter()}
              FROM {PROFILE} WHERE id BETWEEN %s AND %s ORDER BY id""",
        [uuid_parameter(run.pk), format_time(ended), *between],
    )
    execute(
        f"""INSERT INTO {STORY} (batch_id, profile_id, story_id, title, url, found_at, is_baseline)
            SELECT %s, id, %s, 'What happened at ' || name, url, {time_parameter()}, %s
              FROM {PROFILE} WHERE id BETWEEN %s AND %s AND (%s OR id %% {NEWS} = 0) ORDER BY id""",
        [uuid_parameter(run.pk), str(ended), format_time(ended), is_first, *between, is_first],
    )


def start_one() -> None:
    """A running batch, so that the page of the queue shows estimates."""
    running = manager.create_batch("Running", list(addresses(1_000)), 9)
    assert isinstance(running, Batch), running
    manager.start_batch(running.pk)
    manager.claim_run("benchmark")


def fill_others(lists: int) -> None:
    now = timezone.now()
    Host.objects.bulk_create(
        Host(name=f"host-{number}.example", not_before=now + timedelta(minutes=number), last_status=429)
        for number in range(lists)
    )
    batches = Batch.objects.filter(list__isnull=False)
    BatchLog.objects.bulk_create(
        (BatchLog(batch=batch, action="queue_batch", actor="ada", to_status="queued") for batch in batches), CHUNK
    )
    times = {"first_seen_at": now - timedelta(days=3), "last_seen_at": now, "checks": 3}
    Redirect.objects.bulk_create(
        Redirect(profile=profile, url=f"{profile.url}?new", **times) for profile in Profile.objects.all()[:lists]
    )
    Webhook.objects.create(url="https://example.org/hook", every_batch=True)
    for each in ProfileList.objects.all()[:100]:
        manager.create_feed(each.pk, "the newsroom")
        manager.subscribe(each.pk, "ada@example.org", topics=["stories"])


# The pages


def pages() -> Iterator[tuple[str, str]]:
    """Every page without a form to fill in: name and path."""
    yield "index", reverse("admin:index")
    for model in apps.get_app_config("batches").get_models():
        if not admin.site.is_registered(model):
            continue
        name = model._meta.model_name
        yield f"{name} list", reverse(f"admin:batches_{name}_changelist")
        if (row := model._default_manager.order_by("-pk").first()) is not None:
            yield f"{name} page", reverse(f"admin:batches_{name}_change", args=[row.pk])
    yield from special_pages()


def special_pages() -> Iterator[tuple[str, str]]:
    """Pages with separate addresses, and lists with filters."""
    run = Batch.objects.filter(list__isnull=False).order_by("-completed_at", "name")[0]
    found, profile = run.list, Profile.objects.filter(failures__gt=0).order_by("pk")[0]
    for name, view, args, query in (
        ("queue", "batch_queue", [], ""),
        ("queue, fetched", "batch_queue_live", [], ""),
        ("dashboard, fetched", "batch_dashboard_live", [], ""),
        ("run of a list", "batch_change", [run.pk], ""),
        ("its details", "batch_details", [run.pk], ""),
        ("its profiles", "batchprofile_changelist", [], f"?batch={run.pk}"),
        ("its failed profiles", "batchprofile_changelist", [], f"?batch={run.pk}&status__exact=failed"),
        ("its stories", "storyresult_changelist", [], f"?batch={run.pk}"),
        ("list of 1,000", "profilelist_change", [found and found.pk], ""),
        ("profiles of a list", "listprofile_changelist", [], f"?list={found and found.pk}"),
        ("a failing profile", "profile_change", [profile.pk], ""),
        ("failures of today", "profile_failures", [], ""),
        ("failures at any time", "profile_failures", [], "?period=all"),
        ("its profiles as a list", "profile_changelist", [], "?check=failed_today"),
        ("failing hosts, searched", "host_changelist", [], "?q=host-77"),
        ("failing profiles of a large host", "profile_changelist", [], "?host=platform.example&check=failed"),
        ("runs of today compared", "batch_today", [], ""),
        ("new stories", "storyresult_reading", [], ""),
        ("new stories of today and a list", "storyresult_reading", [], f"?day=today&list={found and found.pk}"),
        ("new stories of today and a host", "storyresult_reading", [], "?day=today&host=host-77.example"),
        ("profiles of a small host", "profile_changelist", [], "?host=host-77.example"),
        ("profiles of a large host", "profile_changelist", [], "?host=platform.example"),
        ("batches, searched", "batch_changelist", [], "?q=List+77"),
        ("done batches", "batch_changelist", [], "?status__exact=done"),
    ):
        yield name, reverse(f"admin:batches_{view}", args=args) + query

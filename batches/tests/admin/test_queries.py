"""The cost of the pages: a constant number of queries."""

from functools import partial

import pytest
from django.urls import reverse

from batches.admin.records import BatchProfileAdmin
from batches.batch_manager import BatchManager
from batches.models import Batch, BatchProfile, Profile, Webhook

from ..reports.test_queries import count_rows_read
from ..support.factories import make_batch, make_list, ok, profile_ids, run_list
from ..support.tables import statements_of
from .conftest import MODELS, NUMBERS, QUEUE, QUEUE_LIVE, address, batch_with, page_of, queries_of, story

pytestmark = pytest.mark.django_db

LISTS = [address(model, "changelist") for model in MODELS]
REPORTS = [reverse(f"admin:batches_{name}") for name in ("batch_today", "profile_failures", "storyresult_reading")]
REPORTS += [f"{REPORTS[-1]}?day=today&host=example.org&by=profile"]


def fill(rows):
    """Batches in each status with this many rows of each kind, and deliveries for another webhook; a repeat of one."""
    Webhook.objects.create(url=f"https://example.org/{next(NUMBERS)}", is_active=True)
    for running in Batch.objects.running():
        assert BatchManager().pause_batch(running.pk)
    for status in ("paused", "error", "done", "running"):
        stories = [story(f"story {next(NUMBERS)}") for _ in range(rows)]
        batch = batch_with(status, ok=rows, failed=rows, stories=stories)
        for priority in range(rows):
            BatchManager().set_priority(batch.pk, priority + 1)
        found = make_list(f"list {next(NUMBERS)}", rows)
        Batch.objects.filter(pk=batch.pk).update(list=found)
        if status == "done":
            repeat = BatchManager().repeat_batch(batch.pk)
    batch_with()
    return repeat


def pages(batch):
    yield from (QUEUE, QUEUE_LIVE, page_of(batch, "live"), *LISTS, *REPORTS)
    yield from (page_of(batch, name) for name in ("change", "details", "delete"))
    yield f"{address(BatchProfile, 'changelist')}?batch={batch.pk}&change=unchanged&error=x"
    yield from (page_of(batch.list, name) for name in ("change", "delete", "import"))
    yield from (reverse("admin:index"), reverse("admin:batches_batch_dashboard_live"))


@pytest.mark.slow
def test_no_page_takes_more_queries_when_it_shows_more_rows(client):
    def count(batch):
        return {
            url.replace(str(batch.pk), "…").replace(str(batch.list_id), "…"): queries_of(partial(client.get, url))
            for url in pages(batch)
        }

    batch = fill(1)
    count(batch)
    before = count(batch)
    assert max(before[QUEUE], before[QUEUE_LIVE]) <= 20
    assert (
        before[page_of(batch, "live").replace(str(batch.pk), "…")] <= 6
    )  # session, user, batch, log, previous batch, queue
    assert count(fill(9)) == before


def test_the_page_of_a_profile_takes_no_more_queries_after_more_checks(client):
    def check_again(number):
        for _ in range(number):
            found = make_list(f"list {next(NUMBERS)}", 1)
            run_list(found, ok(f"story {next(NUMBERS)}"))
            assert BatchManager().queue_batch(found.runs.get().pk)  # all again

    def count():
        return queries_of(partial(client.get, page_of(Profile.objects.get())))

    check_again(1)
    count()
    before = count()
    check_again(8)
    assert count() == before <= 14


@pytest.mark.databases("postgresql")
def test_the_checks_of_a_profile_are_found_without_reading_those_of_others(client, monkeypatch, statistics):
    """An index has them, but not in the order of the list: in that order, all rows would be read."""
    monkeypatch.setattr(BatchProfileAdmin, "list_per_page", 1)
    batch = make_batch(profiles=2_000, queue=False)
    assert BatchManager().repeat_batch(batch.pk)
    statistics()
    url = f"{address(BatchProfile, 'changelist')}?profile__id__exact={profile_ids(batch)[0]}"
    for sql in statements_of(partial(client.get, url)):
        if "batchprofile" in sql or sql.startswith("SET LOCAL"):
            assert count_rows_read(sql) <= 2, sql

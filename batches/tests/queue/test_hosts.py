"""The limits that hosts ask for outlive the run that noted them."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from batches.checking.checkers.politeness import HostNote
from batches.limits import MAX_HOST
from batches.models import Host
from batches.queue import hosts
from batches.queue.hosts import hear_of_hosts, recall_hosts, remember_hosts
from batches.tests.support.threads import TIMEOUT, in_thread

pytestmark = pytest.mark.django_db


def test_the_limits_of_hosts_are_remembered_until_they_no_longer_ask():
    a, b = HostNote("a.example", 3600.0, 2, 4.0, 429), HostNote("b.example", 0.0, 0, 1.0, 200)
    for _ in range(2):  # a call that is repeated changes nothing
        remember_hosts([a, b])
        first, second = recall_hosts()
        assert 3500 < first.pause_seconds <= 3600
        assert (first._replace(pause_seconds=3600.0), second) == (a, b)
    remember_hosts([HostNote("a.example", 0.0, 0, 0.0, 200), b._replace(pause_seconds=600.0)])
    assert [note.name for note in recall_hosts()] == ["b.example"]
    assert 500 < recall_hosts()[0].pause_seconds <= 600
    assert Host.objects.count() == 1


def test_a_pause_ends_by_the_databases_clock():
    remember_hosts([HostNote("a.example", 3600.0, 1, 1.0, 503)])
    now = timezone.now()
    not_before = Host.objects.get().not_before
    assert timedelta(minutes=59) < not_before - now < timedelta(minutes=61)
    Host.objects.update(not_before=not_before - timedelta(hours=2))
    assert recall_hosts() == [HostNote("a.example", 0.0, 1, 1.0, 503)]


def test_a_pause_is_not_a_day_longer_after_the_clock_was_set_back_by_a_day():
    remember_hosts([HostNote("a.example", 60.0)])
    Host.objects.update(**{field: F(field) + timedelta(days=1) for field in ("not_before", "noted_at")})
    assert [round(note.pause_seconds) for note in recall_hosts()] == [60]
    assert hear_of_hosts() == []  # it would begin again and again


def test_many_hosts_are_remembered_at_once_and_the_longest_pauses_recalled(monkeypatch):
    remember_hosts([HostNote(f"{number}.example", 60.0 * number, 1) for number in range(1, 1001)])
    assert Host.objects.count() == 1000
    monkeypatch.setattr(hosts, "MAX_RECALLED", 3)
    assert [note.name for note in recall_hosts()] == ["1000.example", "999.example", "998.example"]
    remember_hosts([HostNote(f"{number}.example") for number in range(1, 1001)])
    assert Host.objects.count() == 0


def test_a_name_that_is_too_long_to_be_one_is_not_remembered():
    remember_hosts([HostNote("a" * (MAX_HOST + 1), 60.0), HostNote("b.example", 60.0)])
    assert [note.name for note in recall_hosts()] == ["b.example"]


def test_workers_learn_the_limits_that_hosts_have_recently_asked_of_others():
    remember_hosts([HostNote("old.example", 60.0, 1), HostNote("new.example", 60.0, 1)])
    Host.objects.filter(name="old.example").update(noted_at=Now() - timedelta(seconds=hosts.NEWS_SECONDS + 1))
    assert [note.name for note in hear_of_hosts()] == ["new.example"]
    remember_hosts([HostNote("old.example", 30.0, 2)])
    assert {note.name for note in hear_of_hosts()} == {"old.example", "new.example"}


@pytest.mark.databases("postgresql")
@pytest.mark.django_db(transaction=True)
def test_hosts_are_written_in_the_order_of_their_names_and_one_that_is_locked_is_not_deleted():
    """Otherwise workers could deadlock."""
    remember_hosts([HostNote(name, 60.0) for name in ("b.example", "a.example")])
    assert list(Host.objects.order_by("pk").values_list("name", flat=True)) == ["a.example", "b.example"]
    with transaction.atomic():
        Host.objects.select_for_update().get(name="a.example")
        in_thread(lambda: remember_hosts([HostNote("a.example")])).result(TIMEOUT)
    assert Host.objects.count() == 2

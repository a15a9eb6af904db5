"""Making batches: through the manager and by a plain insert."""

import random
import uuid

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batches import batch_manager
from batches.batch_manager import BatchManager
from batches.lists.imports import ProfileAddress
from batches.models import Batch, BatchLog, BatchProfile, Profile, Queue
from batches.queue import contents
from batches.queue.refusals import Code, Refusal
from batches.tests.support.factories import (
    assert_consistent,
    everything,
    half_checked,
    last_line,
    make_batch,
    profile_ids,
    row_statuses,
    urls,
    values_of,
    waiting_names,
)
from batches.tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db

ID = uuid.UUID("6a1b6d3e-0000-4000-8000-000000000000")


@pytest.fixture
def manager():
    return BatchManager("ada", "command")


def urls_of(batch):
    return list(batch.profiles.order_by("pk").values_list("profile__url", flat=True))


def test_a_new_batch_is_queued_with_a_pending_row_for_each_profile(manager):
    make_batch("before")
    version, lines = Queue.objects.get().version, BatchLog.objects.count()
    batch = manager.create_batch("News", urls(3), priority=-1, checker="http")
    assert (batch.name, batch.status, batch.position, batch.priority, batch.checker) == (
        "News",
        "queued",
        2,
        -1,
        "http",
    )
    assert (batch.total_profiles, batch.completed_profiles, batch.previous) == (3, 0, None)
    assert row_statuses(batch) == ["pending"] * 3
    assert urls_of(batch) == urls(3)
    assert values_of(batch.pk)["position"] == 2
    assert Queue.objects.get().version == version + 1
    assert BatchLog.objects.count() == lines + 1
    line = last_line()
    assert (line.batch, line.action, line.actor, line.channel) == (batch, "create_batch", "ada", "command")
    assert (line.from_status, line.from_position, line.to_status, line.to_position) == ("", None, "queued", 2)
    assert line.message == "3 profiles"
    assert_consistent()


def test_a_new_batch_can_be_left_paused(manager):
    make_batch("before")
    batch = manager.create_batch("Later", urls(2), queue=False)
    assert (batch.status, batch.position, batch.total_profiles) == ("paused", None, 2)
    assert (last_line().to_status, last_line().to_position) == ("paused", None)
    assert waiting_names() == ["before"]


def test_a_batch_may_have_no_profiles(manager):
    batch = manager.create_batch("Empty")
    assert (batch.total_profiles, batch.position) == (0, 1)


def test_profiles_come_as_texts_as_an_imports_addresses_or_as_profiles(manager):
    known = Profile.objects.create(url="https://example.org/known", name="Known")
    batch = manager.create_batch(
        "Mixed",
        [
            "HTTPS://Example.ORG:443/text#part",
            ProfileAddress("https://example.org/imported", "Imported"),
            known,
            "feed://example.org/feed",
        ],
    )
    assert list(batch.profiles.order_by("pk").values_list("profile__url", "profile__name")) == [
        ("https://example.org/text", ""),
        ("https://example.org/imported", "Imported"),
        ("https://example.org/known", "Known"),
        ("http://example.org/feed", ""),
    ]
    assert Profile.objects.count() == 4


def test_spellings_of_one_address_collapse_into_its_first_place_with_the_first_name(manager):
    batch = manager.create_batch(
        "Twice",
        [
            "https://b.example/",
            ProfileAddress("https://a.example/"),
            "https://B.example",
            ProfileAddress("https://a.example/", "A name"),
            ProfileAddress("https://a.example/", "Another"),
        ],
    )
    assert urls_of(batch) == ["https://b.example/", "https://a.example/"]
    assert batch.total_profiles == 2
    assert Profile.objects.get(url="https://a.example/").name == "A name"


def test_a_known_profile_keeps_its_name_and_what_it_remembers(manager):
    known = Profile.objects.create(url="https://example.org/0", name="Mine", etag='"1"')
    manager.create_batch("Again", [ProfileAddress("https://example.org/0", "Theirs"), "https://example.org/1"])
    known.refresh_from_db()
    assert (known.name, known.etag) == ("Mine", '"1"')
    assert Profile.objects.get(url="https://example.org/1").etag == ""


@pytest.mark.parametrize("chunk", [7, 10_000])
def test_the_rows_have_the_order_of_the_list_whatever_was_known_before(chunk, manager, monkeypatch):
    monkeypatch.setattr(contents, "INSERT_CHUNK", chunk)
    wanted = urls(40)
    random.Random(1).shuffle(wanted)
    manager.create_batch("Some are known", wanted[10:20])
    batch = manager.create_batch("All", iter(wanted))
    assert urls_of(batch) == wanted
    assert batch.total_profiles == 40
    assert Profile.objects.count() == 40


def test_of_a_queryset_of_profiles_those_go_in_that_match_now_oldest_first(manager):
    make_batch("first", 6)
    known = Profile.objects.order_by("-pk")
    chosen = known.filter(url__gte="https://example.org/2").exclude(url__endswith="4")
    assert len(chosen) == 3
    Profile.objects.create(url="https://example.org/7")
    batch = manager.create_batch("Chosen", chosen)
    assert urls_of(batch) == [f"https://example.org/{number}" for number in (2, 3, 5, 7)]
    assert (batch.total_profiles, last_line().message) == (4, "4 profiles")
    assert row_statuses(batch) == ["pending"] * 4
    assert_consistent()


@pytest.mark.parametrize(
    ("narrow", "numbers"),
    [
        (lambda known: known.order_by("-url")[1:3], [1, 2]),
        (lambda known: known.filter(checks__batch__name__startswith="").distinct(), [0, 1, 2, 3]),
        (lambda known: known.filter(checks__batch__name__startswith=""), [0, 1, 2, 3]),  # each is found twice
        (lambda known: known.values_list("url", flat=True), [0, 1, 2, 3]),
        (lambda known: known.filter(url__contains="%s"), []),
        (lambda known: known.filter(pk__in=[]), []),
        (lambda known: known.none(), []),
    ],
)
def test_any_queryset_of_profiles_will_do(manager, narrow, numbers):
    make_batch("first", 4)
    make_batch("second", 4)
    batch = manager.create_batch("Chosen", narrow(Profile.objects.all()))
    assert urls_of(batch) == [f"https://example.org/{number}" for number in numbers]
    assert batch.total_profiles == len(numbers)


def test_a_queryset_takes_as_many_queries_for_many_profiles_as_for_one(manager):
    make_batch("first", 50)

    def queries(chosen):
        with CaptureQueriesContext(connection) as captured:
            assert manager.create_batch("Chosen", chosen).total_profiles == len(chosen)
        return len(captured)

    assert queries(Profile.objects.all()[:1]) == queries(Profile.objects.all())


def test_an_order_with_an_id_that_is_given_twice_makes_one_batch(manager):
    first = manager.create_batch("News", urls(2), id=ID)
    assert first.pk == ID
    before = everything()
    again = manager.create_batch("Other news", urls(3), id=ID)
    assert isinstance(again, Refusal)
    assert (again.code, again.message) == (Code.ALREADY_EXISTS, "“News” already has this ID. Nothing was added.")
    assert everything() == before


def test_the_id_of_a_deleted_batch_whose_rows_are_not_all_gone_is_taken(manager):
    manager.create_batch("News", urls(2), queue=False, id=ID)
    Batch.objects.update(deleted_at=timezone.now())
    assert manager.create_batch("News", urls(2), id=ID).code == Code.ALREADY_EXISTS


@pytest.mark.django_db(transaction=True)
def test_of_orders_with_one_id_at_the_same_time_one_is_carried_out():
    answers = run_in_threads([lambda: BatchManager().create_batch("News", urls(200), id=ID)] * 4)
    assert sum(bool(answer) for answer in answers) == 1
    assert {answer.code for answer in answers if not answer} == {Code.ALREADY_EXISTS}
    assert Batch.objects.get().total_profiles == 200
    assert_consistent()


@pytest.mark.parametrize("name", ["", " \t\n", "\0\ud800", "x" * 201, "x" * 1_000_000, None, 7])
def test_a_bad_name_is_refused(name, manager):
    assert_refused(manager.create_batch(name, urls(2)))


@pytest.mark.parametrize("name", ["x" * 200, " " * 5000 + "x" * 200])
def test_a_name_may_have_200_characters(name, manager):
    assert manager.create_batch(name).name == "x" * 200


def test_a_name_is_stored_as_one_clean_line(manager):
    assert manager.create_batch("  News\0 of\r\n the \ud800 day  ").name == "News of the day"
    assert manager.create_batch("a   " * 100).name == " ".join(["a"] * 100)


@pytest.mark.parametrize("priority", [32_768, -32_769, "1", None, True, 0.5])
def test_a_bad_priority_is_refused(priority, manager):
    assert_refused(manager.create_batch("News", urls(2), priority=priority))


@pytest.mark.parametrize("checker", ["", "nonsense", "Feed", None, [], "\0\ud800", "x" * 100_000])
def test_a_bad_checker_is_refused_with_the_names_of_the_known_ones(checker, manager):
    answer = manager.create_batch("News", urls(2), checker=checker)
    assert_refused(answer)
    assert "feed, http" in answer.message
    assert len(answer.message) < 200


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nonsense",
        "ftp://example.org/",
        "https://user:password@example.org/",
        "https://example.org/\0",
        "https://example.org/\ud800",
        "https://example.org/" + "x" * 2000,
        "x" * 1_000_000,
    ],
)
def test_a_bad_address_is_refused_and_nothing_is_created(address, manager):
    answer = manager.create_batch("News", ["https://example.org/good", address])
    assert_refused(answer)
    assert "is not a valid profile address" in answer.message
    assert len(answer.message) < 500


def assert_refused(answer):
    assert isinstance(answer, Refusal)
    assert (bool(answer), answer.code) == (False, Code.BAD_VALUE)
    answer.message.encode()
    assert not Batch.everything.exists()
    assert not Profile.objects.exists()
    assert not BatchLog.objects.exists()


def test_a_fault_in_the_middle_leaves_nothing_behind(manager, monkeypatch):
    def fail(*args):
        raise RuntimeError("in the middle")

    monkeypatch.setattr(batch_manager, "insert_batch_profiles", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        manager.create_batch("News", urls(2))
    assert not Batch.everything.exists()
    assert not Profile.objects.exists()


# A plain insert


def test_a_plain_insert_is_queued_at_the_end_of_its_band():
    make_batch("high", priority=1), make_batch("low", priority=-1)
    version, lines = Queue.objects.get().version, BatchLog.objects.count()
    batch = Batch.objects.create(name="plain")
    assert (batch.status, batch.position) == ("queued", 2)
    assert waiting_names() == ["high", "plain", "low"]
    assert Queue.objects.get().version == version + 1
    assert BatchLog.objects.count() == lines + 1
    line = last_line()
    assert (line.batch, line.action, line.to_status, line.to_position) == (batch, "create_batch", "queued", 2)
    assert_consistent()


def test_an_instance_that_is_saved_gets_its_place_and_keeps_it_when_it_is_saved_again():
    make_batch("before")
    batch = Batch(name="plain", total_profiles=5)
    batch.save()
    assert batch.position == 2
    lines = BatchLog.objects.count()
    batch.name = "renamed"
    batch.save()
    assert (values_of(batch.pk)["position"], values_of(batch.pk)["name"]) == (2, "renamed")
    assert BatchLog.objects.count() == lines


def test_a_plain_insert_that_is_not_queued_has_no_place():
    assert Batch.objects.create(name="plain", status="paused").position is None


def test_an_insert_that_fails_leaves_the_queue_and_the_instance_as_they_were():
    first = make_batch("first")
    before = everything()
    batch = Batch(pk=first.pk, name="the same id", priority=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        batch.save(force_insert=True)
    assert batch.position is None
    assert everything() == before


@pytest.mark.databases("postgresql")
def test_an_insert_that_the_database_refuses_shifts_nobody():
    make_batch("first")
    before = everything()
    with pytest.raises(DatabaseError), transaction.atomic():
        Batch.objects.create(name="x" * 201, priority=1)
    assert everything() == before


def test_a_bulk_insert_past_the_manager_cannot_make_a_queued_batch_without_a_place():
    with pytest.raises(IntegrityError), transaction.atomic():
        Batch.objects.bulk_create([Batch(name="sneaked in")])


# Repeats


def test_a_repeat_has_the_rows_in_their_order(manager):
    wanted = urls(30)
    random.Random(2).shuffle(wanted)
    make_batch("others", 30)
    source = manager.create_batch("News", wanted)
    again = manager.repeat_batch(source.pk)
    assert profile_ids(again) == profile_ids(source)
    assert urls_of(again) == wanted


def test_a_repeat_of_a_batch_whose_caller_keeps_no_rows_has_none_and_the_same_total(manager):
    again = manager.repeat_batch(half_checked("done", rows=False).pk)
    assert (again.total_profiles, again.completed_profiles) == (3, 0)
    assert not again.profiles.exists()


def test_a_repeat_of_a_repeat_is_linked_to_that(manager):
    first = make_batch("News", 2)
    second = manager.repeat_batch(first.pk)
    third = manager.repeat_batch(second.pk)
    assert (second.previous, third.previous) == (first, second)
    assert BatchProfile.objects.count() == 6
    assert Profile.objects.count() == 2

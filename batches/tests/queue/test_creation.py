"""Creating batches: with the manager, by a plain insert, and as a repeat."""

import random
import uuid
from datetime import timedelta
from itertools import chain

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone

from batches.lists.imports import ProfileAddress
from batches.models import Batch, BatchLog, Profile, Queue
from batches.queue import contents
from batches.queue.refusals import Code, Refusal
from batches.tests.support.factories import (
    assert_consistent,
    assert_logged,
    last_line,
    make_batch,
    profile_ids,
    row_statuses,
    unchanged,
    urls,
    urls_of,
    values_of,
    waiting_names,
)

pytestmark = pytest.mark.django_db

ID = uuid.UUID("6a1b6d3e-0000-4000-8000-000000000000")


def shuffled(count, seed):
    addresses = urls(count)
    random.Random(seed).shuffle(addresses)
    return addresses


def test_a_new_batch_is_queued_with_a_pending_row_for_each_profile(manager):
    make_batch("before")
    version, lines = Queue.objects.get().version, BatchLog.objects.count()
    batch = manager.create_batch("  News\0 of\r\n the \ud800 day  ", urls(3), priority=-1, checker="http")
    expected = ("News of the day", "queued", 2, -1, "http")
    assert (batch.name, batch.status, batch.position, batch.priority, batch.checker) == expected
    assert (batch.total_profiles, batch.completed_profiles, batch.previous) == (3, 0, None)
    assert row_statuses(batch) == ["pending"] * 3
    assert urls_of(batch) == urls(3)
    assert values_of(batch.pk)["position"] == 2
    assert (Queue.objects.get().version, BatchLog.objects.count()) == (version + 1, lines + 1)
    assert_logged("create_batch", batch, after=("queued", 2), message="3 profiles")
    assert_consistent()


def test_profiles_can_be_texts_imported_addresses_or_profiles_and_duplicates_are_dropped(manager):
    known = Profile.objects.create(url="https://example.org/known", name="Known", etag='"1"')
    batch = manager.create_batch(
        "Mixed",
        [
            "HTTPS://Example.ORG:443/text#part",
            ProfileAddress("https://example.org/imported"),
            known,
            "feed://example.org/feed",
            "https://EXAMPLE.org/text",
            ProfileAddress("https://example.org/imported", "A name"),
            ProfileAddress("https://example.org/imported", "Another"),
            ProfileAddress("https://example.org/known", "Theirs"),
        ],
    )
    assert list(batch.profiles.order_by("pk").values_list("profile__url", "profile__name")) == [
        ("https://example.org/text", ""),
        ("https://example.org/imported", "A name"),
        ("https://example.org/known", "Known"),
        ("http://example.org/feed", ""),
    ]
    assert (batch.total_profiles, Profile.objects.count()) == (4, 4)
    known.refresh_from_db()
    assert known.etag == '"1"'


@pytest.mark.parametrize(
    "together",
    [pytest.param(7, marks=pytest.mark.django_db(transaction=True)), 40],
    ids=["own transactions", "the caller's transaction"],
)
def test_profiles_have_the_order_of_the_list_and_those_of_a_transaction_are_sorted(manager, monkeypatch, together):
    """The order of the list keeps rows close together in indexes. Unsorted, parallel imports could deadlock."""
    monkeypatch.setattr(contents, "INSERT_CHUNK", 7)
    wanted = shuffled(40, seed=1)
    manager.create_batch("New", wanted)
    chunks = [sorted(wanted[first : first + together]) for first in range(0, 40, together)]
    assert list(Profile.objects.order_by("pk").values_list("url", flat=True)) == list(chain.from_iterable(chunks))


def test_a_queryset_is_read_when_the_rows_are_inserted_oldest_first(manager):
    make_batch("first", 6)
    selected = Profile.objects.order_by("-pk").filter(url__gte="https://example.org/2").exclude(url__endswith="4")
    assert len(selected) == 3
    Profile.objects.create(url="https://example.org/7")
    assert urls_of(manager.create_batch("it", selected)) == [f"https://example.org/{number}" for number in (2, 3, 5, 7)]


@pytest.mark.parametrize(
    ("narrow", "numbers"),
    [
        (lambda known: known.order_by("-url")[1:3], [1, 2]),
        (lambda known: known.filter(checks__batch__name__startswith="").distinct(), [0, 1, 2, 3]),
        (lambda known: known.filter(checks__batch__name__startswith=""), [0, 1, 2, 3]),  # finds each twice
        (lambda known: known.values_list("url", flat=True), [0, 1, 2, 3]),
        (lambda known: known.filter(url__contains="%s"), []),
        (lambda known: known.filter(pk__in=[]), []),
        (lambda known: known.none(), []),
    ],
)
def test_any_queryset_of_profiles_is_accepted(manager, narrow, numbers):
    make_batch("first", 4)
    make_batch("second", 4)
    batch = manager.create_batch("Selected", narrow(Profile.objects.all()))
    assert urls_of(batch) == [f"https://example.org/{number}" for number in numbers]
    assert batch.total_profiles == len(numbers)


def test_a_batch_can_be_stored_while_the_clock_of_the_database_is_ahead(manager, monkeypatch):
    an_hour_ago = timezone.now() - timedelta(hours=1)
    monkeypatch.setattr(timezone, "now", lambda: an_hour_ago)
    batch = manager.create_batch("b", urls(2))
    assert (batch.position, batch.total_profiles, batch.deleted_at) == (1, 2, None)


def test_a_second_batch_with_the_same_id_is_refused_even_if_the_first_is_being_deleted(manager):
    assert manager.create_batch("News", urls(2), queue=False, id=ID).pk == ID
    for _ in range(2):
        with unchanged():
            again = manager.create_batch("Other news", urls(3), id=ID)
            assert again == Refusal(Code.ALREADY_EXISTS, "“News” already has this ID. Nothing was added.")
        Batch.objects.update(deleted_at=timezone.now())


@pytest.mark.parametrize("name", ["x" * 200, "\u200bx", "👩\u200d🚀", "ש\u200f", "é", "\ue000", "–"])
def test_a_name_can_have_200_characters_and_invisible_ones_beside_visible_ones(name, manager):
    assert manager.create_batch(" " * 5000 + "\0" * 300 + name).name == name


@pytest.mark.parametrize("name", ["Pr\u202eess", "\u2067Press\u2069", "\u202aPress\u202c \u2066"])
def test_a_name_cannot_reverse_the_sentence_around_it(name, manager):
    assert manager.create_batch(name, [ProfileAddress(urls(1)[0], name)]).name == "Press"
    assert Profile.objects.get().name.strip() == "Press"
    for right_to_left in ("עיתון (א)", "\u200fصحيفة\u061c 7\u200e"):
        assert manager.create_batch(right_to_left).name == right_to_left


INVALID = [
    *({"name": name} for name in ["", " \t\n", "\0\ud800", "x" * 201, "x" * 1_000_000, None, 7]),
    # Zero-width, formatting and control characters, a mark without a letter, and letters that look like a space.
    *({"name": name} for name in ["\u200b", "\u202e \ufeff", "\x1b\x07", "\u00ad\u2060", "\ufe0f", "\u3164\u2800"]),
    *({"priority": priority} for priority in [32_768, -32_769, "1", None, True, 0.5]),
    *({"checker": checker} for checker in ["", "nonsense", "Feed", None, [], "\0\ud800", "x" * 100_000]),
    *(
        {"profiles": ["https://example.org/good", address]}
        for address in [
            "",
            "nonsense",
            "ftp://example.org/",
            "https://user:password@example.org/",
            "https://example.org/\0",
            "https://example.org/\ud800",
            "https://example.org/" + "x" * 2000,
            "x" * 1_000_000,
        ]
    ),
]


@pytest.mark.parametrize("arguments", INVALID)
def test_an_invalid_argument_is_refused_and_nothing_is_created(arguments, manager):
    with unchanged():
        answer = manager.create_batch(**{"name": "News", "profiles": urls(2)} | arguments)
        assert isinstance(answer, Refusal)
        assert (bool(answer), answer.code) == (False, Code.BAD_VALUE)
        answer.message.encode()
        assert len(answer.message) < 500
        assert ("Use one of: feed, http" in answer.message) == ("checker" in arguments)
        assert ("is not a valid profile address" in answer.message) == ("profiles" in arguments)


# A plain insert


def test_a_plain_insert_is_queued_at_the_end_of_its_band_and_keeps_its_position_when_saved_again():
    make_batch("high", priority=1), make_batch("low", priority=-1)
    version, lines = Queue.objects.get().version, BatchLog.objects.count()
    batch = Batch.objects.create(name="plain")
    assert (batch.status, batch.position) == ("queued", 2)
    assert waiting_names() == ["high", "plain", "low"]
    assert (Queue.objects.get().version, BatchLog.objects.count()) == (version + 1, lines + 1)
    line = last_line()
    assert (line.batch, line.action, line.to_status, line.to_position) == (batch, "create_batch", "queued", 2)
    batch.name = "renamed"
    batch.save()
    assert (values_of(batch.pk)["position"], values_of(batch.pk)["name"]) == (2, "renamed")
    assert BatchLog.objects.count() == lines + 1
    assert Batch.objects.create(name="plain", status="paused").position is None
    assert_consistent()


def test_a_failing_insert_leaves_the_queue_and_the_instance_unchanged():
    first = make_batch("first")
    with unchanged():
        batch = Batch(pk=first.pk, name="the same id", priority=1)
        with pytest.raises(IntegrityError), transaction.atomic():
            batch.save(force_insert=True)
        assert batch.position is None
        if connection.vendor == "postgresql":
            with pytest.raises(DatabaseError), transaction.atomic():
                Batch.objects.create(name="x" * 201, priority=1)
        with pytest.raises(IntegrityError), transaction.atomic():
            Batch.objects.bulk_create([Batch(name="queued without a position")])


# Repeats


def test_a_repeat_has_the_same_rows_in_the_same_order(manager):
    make_batch("others", 30)
    first = manager.create_batch("News", shuffled(30, seed=2))
    assert profile_ids(manager.repeat_batch(first.pk)) == profile_ids(first)

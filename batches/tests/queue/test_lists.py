"""Lists: created, edited, imported as a whole, run and deleted."""

import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from batches.batch_manager import BatchManager
from batches.checking import queries
from batches.lists.imports import ProfileAddress
from batches.models import Batch, BatchLog, ListProfile, Profile, ProfileList, Redirect, StoryResult
from batches.queue import lists
from batches.queue.members import ListChange
from batches.queue.refusals import Code, Refused
from batches.tests.support.factories import (
    assert_consistent,
    failed,
    last_line,
    make_batch,
    make_list,
    ok,
    propose_redirect,
    run_list,
    start_run,
    unchanged,
    urls,
    urls_of,
)
from batches.tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db

UNKNOWN = [None, "", "x", 7, "00000000-0000-0000-0000-000000000000", "\0", [], uuid.UUID(int=7)]


def assert_logged(action, found, message):
    line = last_line()
    assert (line.action, line.list, line.batch, line.actor, line.channel) == (action, found, None, "ada", "api")
    assert line.message == message


# Creating


def test_a_list_has_its_profiles_once_each_in_their_order(manager):
    addresses = ["https://EXAMPLE.org/2", ProfileAddress("https://example.org/1", "One"), "https://example.org/2"]
    created = manager.create_list(" News\0 of\nthe day ", addresses, priority=3, checker="http")
    assert (created.name, created.priority, created.checker, created.version) == ("News of the day", 3, "http", 1)
    assert urls_of(created) == ["https://example.org/2", "https://example.org/1"]
    assert created.total_profiles == 2
    assert_logged("create_list", created, "2 profiles")
    assert not Batch.objects.exists()


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"name": " \n"}, "bad_value"),
        ({"name": " taken\0 "}, "already_exists"),
        ({"priority": 40_000}, "bad_value"),
        ({"priority": "7"}, "bad_value"),
        ({"count_first": "yes"}, "bad_value"),
        ({"checker": "ftp"}, "bad_value"),
        ({"checker": None}, "bad_value"),
    ],
)
def test_impossible_attributes_are_refused(values, code, manager):
    found = make_list()
    make_list("taken")
    with unchanged():
        assert manager.create_list(**{"name": "x"} | values).code == code
        assert manager.create_list("x", ["https://example.org/", "nonsense"]).code == "bad_value"
        assert manager.change_list(found.pk, **values).code == code


# Editing


def test_attributes_are_changed_and_logged_once(manager):
    found = make_list("old", priority=1)
    assert manager.change_list(found.pk, name="new", priority=5, checker="feed")
    found.refresh_from_db()
    assert (found.name, found.priority, found.version) == ("new", 5, 2)
    assert_logged("change_list", found, "name: “old” → “new”, priority: “1” → “5”")
    with unchanged():
        assert manager.change_list(found.pk, name="new", priority=5)


def test_profiles_are_added_and_removed_and_the_change_is_counted(manager):
    found, other = make_list(profiles=3), make_list("other", 3)
    assert manager.add_profiles(found.pk, urls(5)) == ListChange(added=2, unchanged=3)
    assert urls_of(found) == urls(5)
    assert_logged("add_profiles", found, "+2 −0 =3")
    assert manager.remove_profiles(found.pk, [urls(1)[0], "https://example.org/unknown"]) == ListChange(0, 1, 4)
    assert urls_of(found) == urls(5)[1:]
    assert_logged("remove_profiles", found, "+0 −1 =4")
    found.refresh_from_db()
    assert found.version == 3
    assert urls_of(other) == urls(3)


def test_an_edit_that_changes_nothing_leaves_no_trace(manager):
    found = make_list(profiles=3)
    with unchanged():
        assert manager.add_profiles(found.pk, urls(2)) == ListChange(unchanged=3)
        assert manager.remove_profiles(found.pk, ["https://example.org/unknown"]) == ListChange(unchanged=3)
        assert manager.sync_list(found.pk, reversed(urls(3))) == ListChange(unchanged=3)
        assert manager.correct_address(found.pk, urls(1)[0], urls(1)[0])


# Importing as a whole


def addresses(first, last):
    return urls(last)[first:]


def test_an_import_adds_removes_and_keeps(manager):
    found = make_list(profiles=100)
    wanted = addresses(10, 112)
    expected = ListChange(added=12, removed=10, unchanged=90)
    with unchanged():
        assert manager.preview_sync(found.pk, wanted) == expected
    assert str(expected) == "+12 −10 =90"
    assert manager.sync_list(found.pk, wanted) == expected
    assert urls_of(found) == wanted
    assert_logged("sync_list", found, "+12 −10 =90")


@pytest.mark.parametrize(
    ("size", "wanted", "message", "change"),
    [
        (
            100,
            [*addresses(11, 100), "https://example.org/not-stored"],
            "This would remove 11 of the 100 profiles of “a list”, more than a tenth. "
            "Check the list, then confirm the removals.",
            ListChange(1, 11, 89),
        ),
        (
            1,
            [],
            "This would remove the only profile of “a list”. Check the list, then confirm the removal.",
            ListChange(removed=1),
        ),
    ],
    ids=["a tenth", "the only one"],
)
def test_removing_more_than_a_tenth_has_to_be_allowed(size, wanted, message, change, manager):
    found = make_list(profiles=size)
    with unchanged():
        refusal = manager.sync_list(found.pk, wanted)
    assert (refusal.code, refusal.message) == (Code.TOO_MANY_REMOVALS, message)
    assert manager.sync_list(found.pk, wanted, allow_removals=True) == change


def test_removals_are_counted_again_when_the_list_is_edited(manager):
    found = make_list(profiles=10)
    with manager.preparing_sync(found.pk, urls(10)) as sync:
        assert manager.add_profiles(found.pk, urls(20))
        with pytest.raises(Refused, match="more than a tenth"):
            sync()


# Correcting an address


def test_a_corrected_address_keeps_its_history_and_resets_the_memory_of_the_old_address(manager):
    found = make_list(profiles=2)
    run_list(found, ok("a story", etag='"1"', feed_url="https://example.org/feed"), failed())
    propose_redirect(*urls(2))
    assert (len(queries.sample_answering(5)), Profile.objects.failing().count()) == (1, 1)
    assert manager.correct_address(found.pk, urls(1)[0], "https://Example.net/new#top")
    assert_logged("correct_address", found, f"{urls(1)[0]} → https://example.net/new")
    assert StoryResult.objects.get().profile.url == "https://example.net/new"
    assert not Redirect.objects.exists()
    assert manager.correct_address(found.pk, urls(2)[1], "https://example.net/other")
    assert urls_of(found) == ["https://example.net/new", "https://example.net/other"]
    assert (queries.sample_answering(5), Profile.objects.failing().count()) == ([], 0)
    memory = ("feed_url", "etag", "last_checked_at", "last_error", "last_duration", "failures")
    assert set(Profile.objects.values_list(*memory)) == {("", "", None, "", None, 0)}


def test_a_corrected_address_is_noted_in_each_list_that_has_it(manager):
    one, other = make_list("one", 2), make_list("other", 3)
    make_list("without")
    assert manager.correct_address(one.pk, urls(1)[0], "https://example.net/new")
    assert urls_of(other) == ["https://example.net/new", *urls(3)[1:]]
    line = f"{urls(1)[0]} → https://example.net/new"
    noted = BatchLog.objects.filter(action="correct_address").order_by("pk")
    assert set(noted.values_list("list", "message")) == {(one.pk, line), (other.pk, line)}
    assert dict(ProfileList.objects.values_list("name", "version")) == {"one": 2, "other": 2, "without": 1}
    assert manager.sync_list(other.pk, urls(3), True, expected_version=1).code == Code.STALE_VERSION


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("https://example.org/0", "nonsense", "bad_value"),
        ("nonsense", "https://example.org/new", "bad_value"),
        ("https://example.org/7", "https://example.org/new", "not_found"),
        ("https://example.org/0", "https://example.org/1", "already_exists"),
    ],
)
def test_an_impossible_correction_is_refused(old, new, code, manager):
    found = make_list(profiles=2)
    make_batch(profiles=8)  # knows an address that the list does not have
    with unchanged():
        assert manager.correct_address(found.pk, old, new).code == code


# Decided on, done on

EDITS = {
    "change_list": lambda manager, pk, **expected: manager.change_list(pk, name="new", **expected),
    "add_profiles": lambda manager, pk, **expected: manager.add_profiles(pk, urls(5), **expected),
    "remove_profiles": lambda manager, pk, **expected: manager.remove_profiles(pk, urls(1), **expected),
    "sync_list": lambda manager, pk, **expected: manager.sync_list(pk, urls(4), **expected),
    "correct_address": lambda manager, pk, **expected: manager.correct_address(
        pk, urls(1)[0], "https://example.org/new", **expected
    ),
    "delete_list": lambda manager, pk, **expected: manager.delete_list(pk, **expected),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_that_was_decided_from_an_older_version_is_refused(edit, manager):
    found = make_list(profiles=3)
    make_batch(profiles=9)  # all addresses are known
    assert manager.change_list(found.pk, priority=1)
    with unchanged():
        assert EDITS[edit](manager, found.pk, expected_version=1).code == Code.STALE_VERSION
        assert EDITS[edit](manager, found.pk, expected_version="2").code == Code.BAD_VALUE
    assert EDITS[edit](manager, found.pk, expected_version=2)


def test_an_unknown_list_or_feed_is_refused(manager):
    make_batch(profiles=9)
    calls = EDITS | {
        "run_list": lambda manager, pk: manager.run_list(pk),
        "preview_sync": lambda manager, pk: manager.preview_sync(pk, urls(1)),
        "create_feed": lambda manager, pk: manager.create_feed(pk, "a feed"),
    }
    with unchanged():
        for name, call in calls.items():
            for pk in UNKNOWN:
                refusal = call(manager, pk)
                assert refusal.code == Code.NOT_FOUND, (name, pk)
                assert refusal.message.startswith("No list has the ID "), (name, pk)
        for pk in UNKNOWN:
            assert manager.revoke_feed(pk).message.startswith("No feed has the ID "), pk


# Runs


def test_a_run_is_a_queued_batch_of_the_list_that_later_edits_do_not_change(manager):
    make_batch("before")
    found = make_list("News", 3, priority=-1, checker="http")
    run = manager.run_list(found.pk)
    assert (run.name, run.list, run.priority, run.checker, run.previous) == ("News", found, -1, "http", None)
    assert (run.status, run.position, run.total_profiles) == ("queued", 2, 3)
    line = last_line()
    assert (line.action, line.batch, line.list, line.message) == ("run_list", run, found, "3 profiles")
    assert manager.sync_list(found.pk, addresses(2, 6), allow_removals=True)
    assert urls_of(run) == urls(3)
    assert_consistent()


def test_the_next_run_follows_the_latest_and_has_the_list_as_it_is_now(manager):
    found = make_list("News", 3)
    first = manager.run_list(found.pk)
    assert manager.complete_batch(first.pk)
    assert manager.add_profiles(found.pk, urls(5))
    second = manager.run_list(found.pk)
    assert (second.previous, urls_of(second)) == (first, urls(5))


@pytest.mark.parametrize(("status", "code"), [("queued", "already_queued"), ("running", "already_running")])
def test_a_list_has_one_run_at_a_time(status, code, manager):
    found = make_list("News", 1)
    run = manager.run_list(found.pk)
    if status == "running":
        start_run(run)
    with unchanged():
        refusal = manager.run_list(found.pk)
    assert refusal.code == code
    state = "running" if status == "running" else "waiting at position 1"
    assert refusal.message == f"A run of “News” is already {state}."


@pytest.mark.django_db(transaction=True)
def test_one_of_two_parallel_runs_is_created():
    found = make_list("News", 3)
    results = run_in_threads([lambda: BatchManager().run_list(found.pk)] * 4)
    assert sorted(bool(result) for result in results) == [False, False, False, True]
    run = Batch.objects.get()
    assert urls_of(run) == urls(3)
    assert Batch.everything.get() == run


def test_a_repeat_of_a_run_has_the_list_as_it_is_now(manager):
    found = make_list("News", 3)
    run = manager.run_list(found.pk)
    assert manager.sync_list(found.pk, addresses(2, 6), allow_removals=True)
    assert manager.change_list(found.pk, name="Latest news", priority=7)
    repeat = manager.repeat_batch(run.pk)
    assert (repeat.name, repeat.priority, repeat.previous, repeat.list) == ("Latest news", 7, run, found)
    assert (urls_of(repeat), repeat.total_profiles) == (addresses(2, 6), 4)
    assert manager.remove_profiles(found.pk, urls(6))
    assert manager.repeat_batch(run.pk).total_profiles == 0


@pytest.mark.parametrize("is_repeat", [False, True])
def test_a_run_is_refused_if_its_list_is_deleted_in_between(is_repeat, manager):
    found = make_list("News", 3)
    run = run_list(found, ok()) if is_repeat else None
    with manager.preparing_repeat(run.pk) if run else manager.preparing_run(found.pk) as reveal:
        assert BatchManager().delete_list(found.pk)
        with pytest.raises(Exception, match="No list has the ID"):
            reveal()
    assert Batch.objects.count() == is_repeat


@pytest.mark.django_db(transaction=True)  # the reference is checked by a COMMIT
def test_a_run_is_refused_if_its_list_has_been_purged_since_it_was_read(manager, monkeypatch):
    gone = uuid.uuid4()
    monkeypatch.setattr(lists, "find_list", lambda _: ProfileList(pk=gone, name="News"))
    assert manager.run_list(gone).code == Code.NOT_FOUND
    assert not Batch.everything.exists()


# A batch that is kept as a list


def test_a_new_batch_can_be_kept_as_a_list(manager):
    batch = manager.create_batch("News", urls(3), priority=2, keep=True)
    kept = batch.list
    assert (kept.name, kept.priority, kept.checker, urls_of(kept)) == ("News", 2, "feed", urls(3))
    assert list(BatchLog.objects.order_by("pk").values_list("action", "list")) == [
        ("create_list", kept.pk),
        ("create_batch", kept.pk),
    ]
    with unchanged():
        assert manager.create_batch("News", urls(5), keep=True).code == Code.ALREADY_EXISTS
    assert manager.create_batch("News", urls(3)).list is None


def test_a_name_that_is_taken_while_the_batch_is_stored_creates_neither(manager):
    with manager.preparing_batch("News", urls(3), keep=True) as reveal:
        make_list("News")
        with pytest.raises(Exception, match="Another list has the name “News”"):
            reveal()
    assert not Batch.objects.exists()


# Cost


def count_statements(manager, size):
    """Of each edit of a list with this many profiles."""
    counts = {}
    for edit, call in EDITS.items():
        found = make_list(f"{edit} {size}", size)
        with CaptureQueriesContext(connection) as captured:
            assert call(manager, found.pk)
        assert any('FROM "batches_queue"' in query["sql"] for query in captured) == (edit == "delete_list"), edit
        counts[edit] = len(captured)
        ListProfile.objects.all().delete()
        ProfileList.objects.all().delete()
        Profile.objects.filter(url="https://example.org/new").delete()
    return counts


def test_an_edit_costs_as_many_statements_for_a_thousand_profiles_as_for_ten_and_does_not_wait_for_the_queue(
    manager, monkeypatch
):
    monkeypatch.setitem(EDITS, "sync_list", lambda manager, pk: manager.sync_list(pk, urls(4), allow_removals=True))
    make_batch()  # so that there is a queue
    few, many = count_statements(manager, 10), count_statements(manager, 400)
    assert few == many

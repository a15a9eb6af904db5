"""Long edits of lists: staged in bounded transactions that nobody sees, and revealed by the last one."""

import re
from datetime import timedelta
from threading import Event

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from batches.batch_manager import BatchManager
from batches.models import NO_EDITION, Batch, BatchLog, ListProfile, Profile, ProfileList
from batches.queue import contents, editions
from batches.queue.members import ListChange
from batches.queue.refusals import Code, Refused
from batches.reports.doctor import diagnose
from batches.tests.support.chunks import Killed, killed_at
from batches.tests.support.factories import assert_consistent, make_batch, make_list, propose_redirect, urls, urls_of
from batches.tests.support.processes import wait_until
from batches.tests.support.tables import run_sql
from batches.tests.support.threads import TIMEOUT, Gate, in_thread, run_in_threads

pytestmark = pytest.mark.django_db(transaction=True)

#: For a list of twelve: the call, the profiles of the list afterwards, and the change.
EDITS = {
    "add": (lambda manager, pk: manager.add_profiles(pk, urls(20)), urls(20), ListChange(8, 0, 12)),
    "remove": (lambda manager, pk: manager.remove_profiles(pk, urls(8)), urls(12)[8:], ListChange(0, 8, 4)),
    "sync": (lambda manager, pk: manager.sync_list(pk, urls(20)[5:], True), urls(20)[5:], ListChange(8, 5, 7)),
    "exchange": (lambda manager, pk: manager.sync_list(pk, urls(30)[12:], True), urls(30)[12:], ListChange(18, 12, 0)),
    "empty": (lambda manager, pk: manager.sync_list(pk, [], True), [], ListChange(0, 12, 0)),
}

#: The calls that make a list of twelve.
CREATIONS = {
    "create": lambda manager: manager.create_list("New", urls(12)),
    "keep": lambda manager: manager.create_batch("New", urls(12), keep=True),
    "keep selected": lambda manager: manager.create_batch("New", Profile.objects.all(), keep=True),
}


@pytest.fixture
def at_each_staged_chunk(at_each_chunk):
    """As `at_each_chunk`, without the chunks of profiles that are stored before the list is edited."""

    def is_edited():
        return ProfileList.objects.filter(edit_until__gt=Now()).exists()

    return lambda between: at_each_chunk(lambda: between() if is_edited() else None)


@pytest.fixture
def found():
    make_batch("known", 30)  # all addresses are known
    return make_list("News", 12)


@pytest.fixture(params=EDITS)
def edit(request):
    return EDITS[request.param]


@pytest.fixture(params=CREATIONS)
def create(request):
    return CREATIONS[request.param]


def read(found):
    """The list as everybody sees it: its total, its addresses, and the addresses of a new run."""
    run = BatchManager().run_list(found.pk)
    assert run
    addresses = urls_of(run)
    assert BatchManager().delete_batch(run.pk)
    assert (urls_of(found), ProfileList.objects.get(pk=found.pk).total_profiles) == (addresses, len(addresses))
    return addresses


def expire_edit():
    """As if nothing had been heard of an edit for ten minutes."""
    assert ProfileList.objects.filter(edit_until__gt=Now()).update(edit_until=Now() - timedelta(seconds=1))


def findings():
    return [finding.message for finding in diagnose()]


def assert_settled(found):
    """No row is left of earlier or unfinished editions."""
    found.refresh_from_db()
    assert (found.editor, found.edit_until) == (None, None)
    rows = ListProfile.everything.filter(list=found)
    assert rows.count() == rows.filter(last_edition=NO_EDITION).count() == found.total_profiles
    assert findings() == []
    assert_consistent()


# One edit


@pytest.mark.slow
def test_everybody_sees_the_list_before_or_after_a_long_edit_and_waits_for_no_lock(edit, found, manager, at_each_chunk):
    call, after, change = edit
    seen = []

    def work_in_parallel():
        assert not connection.in_atomic_block
        assert in_thread(lambda: BatchManager().hold_queue(f"{len(seen)}")).result(TIMEOUT)
        assert in_thread(lambda: BatchManager().change_list(found.pk, priority=len(seen))).result(TIMEOUT)
        seen.append(in_thread(lambda: read(found)).result(TIMEOUT))

    at_each_chunk(work_in_parallel)
    assert call(manager, found.pk) == change
    revealed = seen.index(after) if after in seen else len(seen)
    assert revealed >= 2
    assert seen == [urls(12)] * revealed + [after] * (len(seen) - revealed)
    assert read(found) == after
    assert BatchLog.objects.filter(list=found, message=str(change), actor="ada").count() == 1
    assert_settled(found)


@pytest.mark.parametrize("number", [2, *(pytest.param(it, marks=pytest.mark.exhaustive) for it in (1, 3))])
def test_a_killed_edit_shows_nothing_and_blocks_nobody_for_ever(number, edit, found, manager, at_each_staged_chunk):
    call, after, change = edit
    with killed_at(number, at_each_staged_chunk):
        call(manager, found.pk)
    manager.purge_deleted()  # keeps an edit that may be in progress
    assert manager.add_profiles(found.pk, urls(13)).code == Code.BEING_EDITED
    assert findings() == []
    assert read(found) == urls(12)
    expire_edit()
    assert findings() == ["Rows of a finished edit are left in 1 list."]
    assert read(found) == urls(12)
    manager.purge_deleted()
    assert_settled(found)
    assert read(found) == urls(12)
    assert call(manager, found.pk) == change
    assert read(found) == after


def test_the_next_edit_removes_the_rows_of_a_killed_one(edit, found, manager, at_each_staged_chunk):
    with killed_at(2, at_each_staged_chunk):
        edit[0](manager, found.pk)
    expire_edit()
    assert manager.correct_address(found.pk, urls(1)[0], "https://example.net/")  # changes no profile of the list
    assert manager.add_profiles(found.pk, ["https://example.org/new"]) == ListChange(1, 0, 12)
    assert read(found) == ["https://example.net/", *urls(12)[1:], "https://example.org/new"]
    assert_settled(found)


@pytest.mark.parametrize("number", [1, 2])
def test_a_worker_settles_a_list_after_a_killed_edit(number, found, manager, at_each_chunk, monkeypatch):
    calls = []
    settle = editions._settle_rows

    def die(*arguments):
        calls.append(True)
        if len(calls) > number:
            raise Killed
        return settle(*arguments)

    at_each_chunk(lambda: None)
    monkeypatch.setattr(editions, "_settle_rows", die)
    with pytest.raises(Killed):
        manager.remove_profiles(found.pk, urls(10))
    assert urls_of(found) == urls_of(manager.run_list(found.pk)) == urls(12)[10:]
    assert findings() == ["Rows of a finished edit are left in 1 list."]
    monkeypatch.setattr(editions, "_settle_rows", settle)
    manager.purge_deleted()
    assert_settled(found)
    assert urls_of(found) == urls(12)[10:]


def test_a_failed_edit_is_removed_at_once(edit, found, manager, at_each_staged_chunk):
    def fail():
        raise RuntimeError("in the middle")

    at_each_staged_chunk(fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        edit[0](manager, found.pk)
    assert read(found) == urls(12)
    assert_settled(found)


def test_a_long_edit_that_changes_nothing_leaves_no_trace(found, manager, at_each_chunk):
    at_each_chunk(lambda: None)
    lines = BatchLog.objects.count()
    assert manager.add_profiles(found.pk, urls(12)) == ListChange(unchanged=12)
    assert manager.remove_profiles(found.pk, urls(30)[12:]) == ListChange(unchanged=12)
    assert manager.sync_list(found.pk, urls(12)) == ListChange(unchanged=12)
    assert (BatchLog.objects.count(), ProfileList.objects.get().version) == (lines, 1)
    assert_settled(found)


def test_removing_much_is_refused_for_a_long_list_too(found, manager, at_each_chunk):
    at_each_chunk(lambda: None)
    assert manager.sync_list(found.pk, urls(5)).code == Code.TOO_MANY_REMOVALS
    assert_settled(found)


def test_a_long_edit_that_was_decided_from_an_older_version_is_refused(found, manager, at_each_chunk):
    at_each_chunk(lambda: None)
    with manager.preparing_sync(found.pk, urls(30)[6:], True) as reveal:
        assert manager.change_list(found.pk, priority=1)
        with pytest.raises(Refused, match="has changed"):
            reveal(1)
    assert read(found) == urls(12)
    assert_settled(found)


# Several edits


def test_a_second_edit_of_the_profiles_is_refused_while_one_is_staged(edit, found, manager, at_each_chunk):
    at_each_chunk(lambda: None)
    redirect = propose_redirect(urls(1)[0], urls(30)[29])
    with manager.preparing_addition(found.pk, urls(20)) as reveal:
        for call in (edit[0], lambda manager, pk: manager.add_profiles(pk, urls(1))):
            refusal = call(BatchManager(), found.pk)
            assert refusal.code == Code.BEING_EDITED
        assert refusal.message == (
            "The profiles of “News” are being changed. Try again when that has finished. "
            "If it was interrupted, wait for up to ten minutes."
        )
        assert manager.accept_redirect(redirect.pk).code == Code.BEING_EDITED
        for url in (urls(3)[2], urls(15)[14]):  # one that the list has, and one that is added to it
            assert manager.forget_profile(Profile.objects.get(url=url).pk).code == Code.BEING_EDITED
        assert manager.correct_address(found.pk, urls(2)[1], "https://example.net/")
        assert reveal(None) == ListChange(8, 0, 12)
    assert urls_of(found) == [urls(1)[0], "https://example.net/", *urls(20)[2:]]
    assert edit[0](manager, found.pk)
    assert_settled(found)


def test_an_interrupted_edit_is_refused_and_does_not_mix_with_the_next(edit, found, manager, at_each_staged_chunk):
    edited = []

    def be_silent():
        if not edited:
            expire_edit()
            edited.append(in_thread(lambda: BatchManager().add_profiles(found.pk, urls(13))).result(TIMEOUT))

    at_each_staged_chunk(be_silent)
    refusal = edit[0](manager, found.pk)
    assert (refusal.code, refusal.message) == (
        Code.FENCED,
        "The import was interrupted for too long. Import the list again.",
    )
    assert edited == [ListChange(1, 0, 12)]
    assert read(found) == urls(13)
    assert_settled(found)


@pytest.mark.databases("postgresql")
def test_of_two_long_edits_that_begin_at_the_same_time_one_is_refused(found, at_each_chunk, monkeypatch):
    """On SQLite this cannot happen: it has a single lock for all writers."""
    at_each_chunk(lambda: None)
    gate = Gate(monkeypatch, editions, "require_settled")

    def add_until_the_second_is_over():
        with BatchManager().preparing_addition(found.pk, urls(20)) as reveal:
            return second.result(TIMEOUT), reveal(None)

    first = gate.stop(add_until_the_second_is_over)
    second = in_thread(lambda: BatchManager().add_profiles(found.pk, urls(30)))
    wait_until(lambda: second.done() or run_sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
    gate.open()
    refusal, change = first.result(TIMEOUT)
    assert (refusal.code, change) == (Code.BEING_EDITED, ListChange(8, 0, 12))
    assert_settled(found)


def test_parallel_long_edits_are_made_as_a_whole_or_refused(found, at_each_chunk):
    at_each_chunk(lambda: None)
    wanted = [urls(30)[first : first + 12] for first in (0, 6, 12, 18)]
    results = run_in_threads([lambda these=these: BatchManager().sync_list(found.pk, these, True) for these in wanted])
    made = [set(these) for these, result in zip(wanted, results, strict=True) if result]
    assert {result.code for result in results if not result} <= {Code.BEING_EDITED}
    assert made
    assert set(read(found)) in made
    assert_settled(found)


@pytest.mark.slow
def test_every_reader_gets_one_edition_while_the_list_is_exchanged_again_and_again(found, at_each_chunk):
    at_each_chunk(lambda: None)
    ended, halves = Event(), [urls(12), urls(30)[12:]]

    def read_all():
        seen = []
        while not ended.is_set():
            seen.append(list(found.profiles.order_by("pk").values_list("profile__url", flat=True)))
            seen.append(run_and_delete(found))
        return seen

    readers = [in_thread(read_all) for _ in range(2)]
    try:
        for number in range(1, 5):
            assert BatchManager().sync_list(found.pk, halves[number % 2], True)
    finally:
        ended.set()
    for reader in readers:
        seen = reader.result(TIMEOUT)
        assert all(addresses in halves for addresses in seen if addresses is not None)
    assert_settled(found)


def run_and_delete(found):
    """The addresses of a run; None if the other reader has one."""
    run = BatchManager().run_list(found.pk)
    addresses = urls_of(run) if run else None
    if run:
        assert BatchManager().delete_batch(run.pk)
    return addresses


# Creating and deleting


def test_nobody_sees_a_new_list_before_all_its_profiles_are_stored(create, manager, at_each_chunk):
    make_batch("known", 12)
    seen = []

    def work_in_parallel():
        assert not connection.in_atomic_block
        assert in_thread(lambda: BatchManager().hold_queue(f"{len(seen)}")).result(TIMEOUT)
        assert findings() == []
        manager.purge_deleted()
        seen.append((ProfileList.objects.count(), ListProfile.objects.count(), Batch.objects.count()))

    at_each_chunk(work_in_parallel)
    assert create(manager)
    assert set(seen) == {(0, 0, 1)}
    assert len(seen) >= 8
    created = ProfileList.objects.get(name="New")
    assert sorted(urls_of(created)) == sorted(urls(12))
    assert_settled(created)


@pytest.mark.parametrize("number", [4, 8, *(pytest.param(it, marks=pytest.mark.exhaustive) for it in (1, 6))])
def test_a_killed_creation_shows_nothing_and_is_purged(number, create, manager, at_each_chunk):
    make_batch("known", 12)
    lines = BatchLog.objects.count()
    with killed_at(number, at_each_chunk):
        create(manager)
    manager.purge_deleted()
    assert not ProfileList.objects.exists()
    assert (Batch.objects.count(), BatchLog.objects.count()) == (1, lines)
    for model in (ProfileList, Batch):
        model.everything.in_preparation().update(deleted_at=Now())
    manager.purge_deleted()
    assert (ProfileList.everything.count(), ListProfile.everything.count(), Batch.everything.count()) == (0, 0, 1)
    assert findings() == []
    at_each_chunk(lambda: None)
    assert create(manager)


def test_a_profile_of_a_list_that_is_being_stored_is_not_forgotten(manager):
    with manager.preparing_list("New", urls(3)) as create:
        [first, *_] = Profile.objects.order_by("pk")
        assert manager.forget_profile(first.pk).code == Code.BEING_ADDED
        assert create().total_profiles == 3
    assert manager.forget_profile(first.pk)
    assert ProfileList.objects.get().total_profiles == 2
    assert_consistent()


def test_an_interrupted_creation_is_refused(create, manager, at_each_chunk):
    make_batch("known", 12)
    at_each_chunk(lambda: ProfileList.everything.in_preparation().update(deleted_at=Now()))
    assert create(manager).code == Code.FENCED
    assert (ProfileList.everything.count(), Batch.everything.count()) == (0, 1)


def test_a_deleted_list_is_gone_at_once_and_its_rows_follow(found, manager, monkeypatch):
    monkeypatch.setattr(contents, "DELETE_CHUNK", 5)
    run, steps = manager.run_list(found.pk), []
    end = contents._find_chunk_end

    def watch(rows):
        assert not connection.in_atomic_block
        assert not ProfileList.objects.exists()
        assert not ListProfile.objects.exists()
        assert Batch.objects.get(pk=run.pk).list is None
        steps.append(ListProfile.everything.count())
        return end(rows)

    monkeypatch.setattr(contents, "_find_chunk_end", watch)
    assert manager.delete_list(found.pk)
    assert steps == [12, 7, 2, 0]
    assert not ProfileList.everything.exists()
    assert (urls_of(run), findings()) == (urls(12), [])
    assert_consistent()


def test_a_killed_deletion_is_completed_by_a_worker_and_the_name_is_free(found, manager, monkeypatch):
    gate = Gate(monkeypatch, contents, "_find_chunk_end")
    deleting = gate.stop(lambda: BatchManager().delete_list(found.pk))
    assert findings() == ["The deletion of 1 list is not complete."]
    assert manager.create_list("News", urls(3))
    manager.purge_deleted()
    gate.open()
    assert deleting.result(TIMEOUT)
    assert ProfileList.everything.get().total_profiles == 3
    assert ListProfile.everything.count() == 3
    assert_consistent()


def test_a_staged_edit_of_a_list_that_is_deleted_is_refused(found, manager, at_each_chunk):
    at_each_chunk(lambda: None)
    with manager.preparing_addition(found.pk, urls(20)) as reveal:
        assert BatchManager().delete_list(found.pk)
        with pytest.raises(Refused, match="No list has the ID"):
            reveal(None)
    assert not ListProfile.everything.exists()


# Cost


def transactions(call):
    """The statements of each transaction of a call."""
    with CaptureQueriesContext(connection) as captured:
        assert call()
    done, found = [query["sql"].replace('"', "") for query in captured], [[]]
    for sql in done:
        if sql.startswith("BEGIN"):
            found.append([])
        found[-1].append(sql)
        if sql == "COMMIT":
            found.append([])
    return [these for these in found if these]


@pytest.mark.parametrize("name", [*EDITS, *CREATIONS, "run", "delete"])
def test_no_transaction_writes_more_than_one_chunk(name, manager, monkeypatch):
    for module in (contents, editions):
        monkeypatch.setattr(module, "INSERT_CHUNK", 5)
    monkeypatch.setattr(editions, "SETTLE_CHUNK", 5)
    monkeypatch.setattr(contents, "DELETE_CHUNK", 5)
    make_batch("known", 30 if name in EDITS else 12)
    found = make_list("News", 12)
    calls = EDITS | {
        **{key: (lambda manager, pk, call=call: call(manager),) for key, call in CREATIONS.items()},
        "run": (lambda manager, pk: manager.run_list(pk),),
        "delete": (lambda manager, pk: manager.delete_list(pk),),
    }
    for statements in transactions(lambda: calls[name][0](manager, found.pk)):
        writes = [sql for sql in statements if re.match("INSERT|UPDATE|DELETE", sql)]
        rows = [sql for sql in writes if re.search("batches_(listprofile|batchprofile|profile)\\b", sql)]
        assert len(rows) <= (2 if name in {"remove", "sync", "exchange", "empty"} else 1), statements

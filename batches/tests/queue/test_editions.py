"""Long edits of lists: staged in bounded transactions that nobody sees, and revealed by the last one."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now

from batches.batch_manager import BatchManager
from batches.models import NO_EDITION, Batch, BatchLog, ListProfile, Profile, ProfileList
from batches.queue import contents, editions
from batches.queue.members import ListChange
from batches.queue.refusals import Code, Refused
from batches.reports.doctor import diagnose
from batches.tests.support.chunks import killed_at
from batches.tests.support.factories import (
    assert_consistent,
    last_line,
    make_batch,
    make_list,
    propose_redirect,
    remembered,
    urls,
    urls_of,
)
from batches.tests.support.threads import TIMEOUT, Gate, in_thread, wait_for_lock

pytestmark = pytest.mark.django_db(transaction=True)

#: For a list of twelve: the call, the profiles of the list afterwards, and the change.
EDITS = {
    "add": (lambda manager, pk: manager.add_profiles(pk, urls(20)), urls(20), ListChange(8, 0, 12)),
    "remove": (lambda manager, pk: manager.remove_profiles(pk, urls(8)), urls(12)[8:], ListChange(0, 8, 4)),
    "sync": (lambda manager, pk: manager.sync_list(pk, urls(20)[5:], True), urls(20)[5:], ListChange(8, 5, 7)),
    "exchange": (lambda manager, pk: manager.sync_list(pk, urls(30)[12:], True), urls(30)[12:], ListChange(18, 12, 0)),
    "empty": (lambda manager, pk: manager.sync_list(pk, [], True), [], ListChange(0, 12, 0)),
}


@pytest.fixture
def at_each_staged_chunk(at_each_chunk):
    """As `at_each_chunk`, without the chunks of profiles that are stored before the list is edited."""

    def is_edited():
        return ProfileList.objects.filter(edit_until__gt=Now()).exists()

    return lambda between: at_each_chunk(lambda: between() if is_edited() else None)


@pytest.fixture
@remembered
def found():
    make_batch("known", 30)  # all addresses are known
    return make_list("News", 12)


@pytest.fixture(params=EDITS)
def edit(request):
    return EDITS[request.param]


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


@pytest.mark.parametrize("number", [5, 6])  # four steps end rows, and the following ones settle the list
def test_a_worker_settles_a_list_after_a_killed_edit(number, found, manager, at_each_chunk):
    with killed_at(number, at_each_chunk):
        manager.remove_profiles(found.pk, urls(10))
    assert urls_of(found) == urls_of(manager.run_list(found.pk)) == urls(12)[10:]
    assert findings() == ["Rows of a finished edit are left in 1 list."]
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


def test_a_long_edit_that_was_decided_from_an_older_version_is_refused(found, manager, at_each_chunk):
    at_each_chunk(lambda: None)
    with manager.preparing_sync(found.pk, urls(30)[6:], True, expected_version=1) as reveal:
        assert manager.change_list(found.pk, priority=1)
        with pytest.raises(Refused, match="has changed"):
            reveal()
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
        assert reveal() == ListChange(8, 0, 12)
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
            return second.result(TIMEOUT), reveal()

    first = gate.stop(add_until_the_second_is_over)
    second = in_thread(lambda: BatchManager().add_profiles(found.pk, urls(30)))
    wait_for_lock(second)
    gate.open()
    refusal, change = first.result(TIMEOUT)
    assert (refusal.code, change) == (Code.BEING_EDITED, ListChange(8, 0, 12))
    assert_settled(found)


# Creating and deleting


def test_a_profile_of_a_list_that_is_being_stored_is_not_forgotten(manager):
    with manager.preparing_list("New", urls(3)) as create:
        [first, *_] = Profile.objects.order_by("pk")
        assert manager.forget_profile(first.pk).code == Code.BEING_ADDED
        assert create().total_profiles == 3
    assert manager.forget_profile(first.pk)
    assert ProfileList.objects.get().total_profiles == 2
    assert_consistent()


def test_a_deleted_list_is_gone_at_once_and_its_rows_follow(found, manager, at_each_removal):
    run, left = manager.run_list(found.pk), []

    def watch():
        assert not connection.in_atomic_block
        assert not ProfileList.objects.exists()
        assert not ListProfile.objects.exists()
        assert Batch.objects.get(pk=run.pk).list is None
        left.append(ListProfile.everything.count())

    at_each_removal(watch)
    assert manager.delete_list(found.pk)
    assert left == [12, 9, 6, 3, 0]
    assert not ProfileList.everything.exists()
    assert (last_line().action, last_line().message) == ("delete_list", f"“News” ({found.pk}) with 12 profiles")
    assert (urls_of(run), findings()) == (urls(12), [])
    assert manager.repeat_batch(run.pk).total_profiles == 12
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
            reveal()
    assert not ListProfile.everything.exists()

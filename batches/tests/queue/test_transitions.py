"""The matrix of calls × statuses: the effect of each call, and that a refused call changes nothing."""

import uuid
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from unittest.mock import ANY

import pytest

from batches.batch_manager import BatchManager
from batches.models import Action, Batch, BatchLog, Queue
from batches.queue.refusals import Code, Refusal
from batches.queue.transitions import RULES
from batches.tests.support.factories import (
    assert_consistent,
    assert_logged,
    half_checked,
    last_line,
    make_batch,
    ok,
    profile_ids,
    row_statuses,
    token_of,
    unchanged,
    undone,
    values_of,
    waiting_names,
)

pytestmark = pytest.mark.django_db

QUEUED, RUNNING, PAUSED, DONE, ERROR = "queued", "running", "paused", "done", "error"
MESSAGE = "The disk is full."

CALLS = {
    "queue_batch": lambda manager, pk: manager.queue_batch(pk),
    "start_batch": lambda manager, pk: manager.start_batch(pk),
    "pause_batch": lambda manager, pk: manager.pause_batch(pk),
    "complete_batch": lambda manager, pk: manager.complete_batch(pk),
    "handle_error": lambda manager, pk: manager.handle_error(pk, MESSAGE),
    "update_progress": lambda manager, pk: manager.update_progress(pk, 2, 2, 0),
    "move_batch": lambda manager, pk: manager.move_batch(pk, 1),
    "set_priority": lambda manager, pk: manager.set_priority(pk, 5),
    "rename_batch": lambda manager, pk: manager.rename_batch(pk, "renamed"),
    "retry_failed": lambda manager, pk: manager.retry_failed(pk),
    "repeat_batch": lambda manager, pk: manager.repeat_batch(pk),
    "delete_batch": lambda manager, pk: manager.delete_batch(pk),
}


@dataclass(frozen=True)
class After:
    """The batch "it" after a call. If it is queued, "first" and "last" are queued as well."""

    status: str
    position: int | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    rows: tuple[str, ...] = ("ok", "failed", "pending")
    is_logged: bool = True

    @property
    def waiting(self) -> list[str]:
        names = ["first", "last"]
        if self.position:
            names.insert(self.position - 1, self.changes.get("name", "it"))
        return names


UNCHECKED = {"completed_profiles": 0, "successful_checks": 0, "failed_checks": 0, "stories_found": 0}
RETRIED = {"completed_profiles": 1, "failed_checks": 0}
AGAIN = ("ok", "pending", "pending")
PROGRESS = {"successful_checks": 2, "failed_checks": 0}

OUTCOMES: dict[tuple[str, str], After | Code] = {
    **{
        (call, status): Code.FINISHED
        for call in ("start_batch", "pause_batch", "complete_batch", "handle_error", "update_progress", "move_batch")
        for status in (DONE, ERROR)
    },
    **{
        (call, status): After(status, position, change)
        for call, change in (("set_priority", {"priority": 5}), ("rename_batch", {"name": "renamed"}))
        for status, position in ((QUEUED, 2), (RUNNING, 0), (PAUSED, None), (DONE, None), (ERROR, None))
    },
    ("set_priority", QUEUED): After(QUEUED, 1, {"priority": 5}),
    ("queue_batch", QUEUED): After(QUEUED, 3),
    ("queue_batch", RUNNING): Code.ALREADY_RUNNING,
    ("queue_batch", PAUSED): After(QUEUED, 3),
    ("queue_batch", DONE): After(QUEUED, 3, UNCHECKED | {"completed_at": None}, rows=("pending",) * 3),
    ("queue_batch", ERROR): After(QUEUED, 3, {"error": ""}),
    ("start_batch", QUEUED): After(RUNNING, 0, {"started_at": ANY}),
    ("start_batch", RUNNING): Code.ALREADY_RUNNING,
    ("start_batch", PAUSED): After(RUNNING, 0, {"started_at": ANY}),
    ("pause_batch", QUEUED): After(PAUSED),
    ("pause_batch", RUNNING): After(PAUSED),
    ("pause_batch", PAUSED): After(PAUSED, is_logged=False),
    **{("complete_batch", status): After(DONE, None, {"completed_at": ANY}) for status in (QUEUED, RUNNING, PAUSED)},
    **{
        ("handle_error", status): After(ERROR, None, {"error": "The disk is full."})
        for status in (QUEUED, RUNNING, PAUSED)
    },
    ("update_progress", QUEUED): Code.ALREADY_QUEUED,
    ("update_progress", RUNNING): After(RUNNING, 0, PROGRESS, rows=(), is_logged=False),
    ("update_progress", PAUSED): After(PAUSED, None, PROGRESS, rows=(), is_logged=False),
    ("move_batch", QUEUED): After(QUEUED, 1),
    ("move_batch", RUNNING): Code.ALREADY_RUNNING,
    ("move_batch", PAUSED): Code.NOT_QUEUED,
    ("retry_failed", QUEUED): Code.ALREADY_QUEUED,
    ("retry_failed", RUNNING): Code.ALREADY_RUNNING,
    ("retry_failed", PAUSED): After(QUEUED, 3, RETRIED, AGAIN),
    ("retry_failed", DONE): After(QUEUED, 3, RETRIED | {"completed_at": None}, AGAIN),
    ("retry_failed", ERROR): After(QUEUED, 3, RETRIED | {"error": ""}, AGAIN),
    ("delete_batch", RUNNING): Code.ALREADY_RUNNING,
}
#: These create or remove a batch instead of changing one, and have their own tests below.
OTHERS = {("repeat_batch", status) for status in Batch.Status} | {
    ("delete_batch", status) for status in (QUEUED, PAUSED, DONE, ERROR)
}
ALLOWED = [key for key, outcome in OUTCOMES.items() if isinstance(outcome, After)]
FORBIDDEN = [key for key, outcome in OUTCOMES.items() if isinstance(outcome, Code)]

#: A batch has these only while it runs.
RUN_FIELDS = {"run_seconds"}


def test_the_matrix_is_complete():
    assert OUTCOMES.keys() | OTHERS == {(call, status) for call in CALLS for status in Batch.Status}
    # Repairs and undoing have a test for each kind of damage and change (`reports/test_doctor.py`, `test_undo.py`).
    assert RULES.keys() - {Action.REPAIR_BATCH, Action.REPEAT_BATCH, Action.UNDO_CHANGE} <= CALLS.keys()


def test_the_table_says_where_each_call_leads():
    for call, status in ALLOWED:
        assert OUTCOMES[call, status].status == (RULES[Action(call)].goes_to or status)


def calls_in(status, calls):
    """Each of these calls that the status has, with a batch "it" in this status. Afterwards it is undone."""
    for has_rows in (True, False):
        with undone():
            it = half_checked(status, has_rows)
            for call, own in calls:
                if own == status and has_rows == (call != "update_progress"):
                    with undone():
                        yield call, it


@pytest.mark.parametrize("status", Batch.Status)
def test_an_allowed_call_does_what_the_matrix_says_and_is_logged_once(status, manager):
    for call, it in calls_in(status, ALLOWED):
        assert_done(call, it, status, manager)


def assert_done(call, it, status, manager):
    before, lines, version = values_of(it.pk), BatchLog.objects.count(), Queue.objects.get().version
    after = OUTCOMES[call, status]
    assert CALLS[call](manager, it.pk) is True
    now = values_of(it.pk)
    assert (now["status"], now["position"]) == (after.status, after.position)
    changed = {name for name in now if now[name] != before[name]} - RUN_FIELDS - {"status", "position"}
    assert {name: now[name] for name in changed} == after.changes
    assert all(now[name] is not None for name in changed & {"started_at"})
    assert it.leases.exists() == (after.status == RUNNING == status)
    assert tuple(row_statuses(it)) == after.rows
    assert waiting_names() == after.waiting
    assert_one_line_if_changed(call, before, after, lines)
    # A name is not part of the order.
    assert Queue.objects.get().version == version + (after.is_logged and call != "rename_batch")
    assert_consistent()


def assert_one_line_if_changed(call, before, after, lines):
    assert BatchLog.objects.count() == lines + after.is_logged
    if after.is_logged:
        moved = (before["status"], before["position"]), (after.status, after.position)
        assert_logged(call, Batch(before["id"]), *moved, message=ANY)


@pytest.mark.parametrize("status", Batch.Status)
def test_a_forbidden_call_is_refused_with_its_code_and_changes_nothing(status, manager):
    for call, it in calls_in(status, FORBIDDEN):
        with unchanged():
            answer = CALLS[call](manager, it.pk)
        assert isinstance(answer, Refusal), call
        assert (bool(answer), answer.code) == (False, OUTCOMES[call, status]), call
        assert f"“it” is {status}" in answer.message, call


@pytest.mark.parametrize("status", Batch.Status)
def test_a_batch_in_any_status_can_be_repeated(status, manager):
    it = half_checked(status)
    assert manager.set_priority(it.pk, 5)
    before = values_of(it.pk)
    version, lines = Queue.objects.get().version, BatchLog.objects.count()
    again = manager.repeat_batch(it.pk)
    # In front of "first" and "last", and behind "it" where that is queued.
    position = 2 if status == QUEUED else 1
    assert (again.status, again.position, again.priority, again.previous_id) == (QUEUED, position, 5, it.pk)
    assert (again.name, again.checker, again.total_profiles) == ("it", "feed", 3)
    assert (again.completed_profiles, again.successful_checks, again.failed_checks) == (0, 0, 0)
    assert (again.stories_found, again.started_at, again.completed_at, again.error) == (0, None, None, "")
    assert profile_ids(again) == profile_ids(it)
    assert row_statuses(again) == ["pending"] * 3
    assert values_of(it.pk) == before
    assert list(it.repeats.all()) == [again]
    assert Queue.objects.get().version == version + 1
    assert BatchLog.objects.count() == lines + 1
    assert_logged("repeat_batch", again, after=(QUEUED, position), message="3 profiles")
    assert_consistent()


@pytest.mark.parametrize("status", [QUEUED, PAUSED, DONE, ERROR])
def test_a_batch_that_does_not_run_can_be_deleted(status, manager, django_capture_on_commit_callbacks):
    it = half_checked(status)
    before, version = values_of(it.pk), Queue.objects.get().version
    other_lines = set(BatchLog.objects.exclude(batch=it).values_list("pk", flat=True))
    with django_capture_on_commit_callbacks(execute=True):
        assert manager.delete_batch(it.pk) is True
    assert not Batch.everything.filter(pk=it.pk).exists()
    assert waiting_names() == ["first", "last"]
    assert Queue.objects.get().version == version + 1
    [line] = BatchLog.objects.exclude(pk__in=other_lines)
    assert (line.batch, line.action, line.actor, line.channel) == (None, "delete_batch", "ada", "api")
    assert (line.from_status, line.from_position, line.to_status) == (before["status"], before["position"], "")
    assert "“it”" in line.message
    assert str(it.pk) in line.message
    assert_consistent()


INVALID_IDS = [
    *("", "123", "x" * 10_000, "\0" * 32, "00000000-0000-4000-8000-00000000000\0", "\ud800" * 32),
    *(None, True, 7, 10**60, [], b"00000000-0000-4000-8000-000000000000", uuid.UUID(int=7)),
]


def test_an_invalid_id_is_not_found_and_has_no_run(manager):
    token = token_of(half_checked(RUNNING))
    with unchanged():
        for batch_id in INVALID_IDS:
            for name, call in CALLS.items():
                answer = call(manager, batch_id)
                assert isinstance(answer, Refusal), (batch_id, name)
                assert (bool(answer), answer.code) == (False, Code.NOT_FOUND), (batch_id, name)
                assert len(str(answer)) < 150
                answer.message.encode()
            assert manager.record_results(batch_id, token, []).code == Code.FENCED, batch_id
            for call in (manager.renew_lease, manager.release_run, manager.finish_run):
                assert call(batch_id, token).code == Code.FENCED, batch_id


def test_no_call_finds_a_deleted_batch_before_its_rows_are_removed(manager):
    it = half_checked(DONE)
    assert manager.delete_batch(it.pk)  # its rows go after the commit of this test's transaction: never
    with unchanged():
        assert {call(manager, it.pk).code for call in CALLS.values()} == {Code.NOT_FOUND}


@pytest.mark.parametrize("form", [str, lambda pk: pk.hex, lambda pk: str(pk).upper(), lambda pk: f"urn:{pk}"])
def test_an_id_can_be_a_text_of_at_most_40_characters(form, manager):
    pk = make_batch().pk
    assert manager.pause_batch(f"uuid:{pk}").code == Code.NOT_FOUND
    assert manager.pause_batch(form(pk)) is True


@pytest.mark.parametrize(
    ("call", "length"),
    [
        (lambda manager, text: manager.pause_batch(text), 40),
        (lambda manager, text: manager.create_batch("News", checker=text), 50),
        (lambda manager, text: manager.create_batch("News", [text]), 200),
    ],
)
def test_a_refusal_quotes_only_the_beginning_of_a_long_text(call, length, manager):
    assert f"'{'x' * length}'" in call(manager, "x" * 1000).message


RUN_CALLS = {
    "record_results": lambda manager, batch, token: manager.record_results(
        batch.pk, token, [(profile_id, ok("late")) for profile_id in profile_ids(batch)]
    ),
    "renew_lease": lambda manager, batch, token: manager.renew_lease(batch.pk, token),
    "release_run": lambda manager, batch, token: manager.release_run(batch.pk, token),
    "finish_run": lambda manager, batch, token: manager.finish_run(batch.pk, token),
    "handle_error": lambda manager, batch, token: manager.handle_error(batch.pk, "Too late.", token),
}


def test_an_invalid_token_is_fenced_even_if_the_batch_has_none(manager):
    it = half_checked(RUNNING)
    assert manager.release_run(it.pk, token_of(it))
    with unchanged():
        for token, (name, call) in product([None, "", "123", 7, "\0", uuid.UUID(int=0)], RUN_CALLS.items()):
            if not (name == "handle_error" and token is None):  # a call without a run
                assert call(manager, it, token).code == Code.FENCED, (token, name)


def test_the_actor_is_stored_clean_and_cut():
    batch = make_batch()
    assert BatchManager("\0\ud800" + "a" * 500).pause_batch(batch.pk)
    assert last_line().actor == "a" * 150


def test_a_name_is_cleaned_and_an_unchanged_one_is_not_logged(manager):
    it = half_checked(QUEUED)
    with unchanged():
        assert manager.rename_batch(it.pk, " it\n") is True
        assert manager.rename_batch(it.pk, "\u200b").code == Code.BAD_VALUE
    assert manager.rename_batch(it.pk, "  The \n new name ") is True
    assert (values_of(it.pk)["name"], last_line().message) == ("The new name", "“it” → “The new name”")


# Decided from a state that has changed

#: Each transition with its other arguments, and a status that allows it.
GUARDED = {
    "queue_batch": ("done",),
    "start_batch": ("paused",),
    "pause_batch": ("running",),
    "complete_batch": ("paused",),
    "handle_error": ("running", "It broke."),
    "move_batch": ("queued", 1),
    "set_priority": ("queued", 5),
    "rename_batch": ("done", "renamed"),
    "retry_failed": ("error",),
    "delete_batch": ("done",),
}


@pytest.mark.parametrize("name", GUARDED)
def test_a_call_that_was_decided_from_another_state_is_refused(name, manager):
    status, *arguments = GUARDED[name]
    it, queue = half_checked(status), Queue.objects.get()
    other = "paused" if status != "paused" else "queued"
    for expected in (
        {"expected_status": other},
        {"expected_status": "\0"},
        {"expected_version": queue.version - 1},
        {"expected_in": Batch.objects.filter(status=other)},
        {"expected_status": status, "expected_version": queue.version + 1},
    ):
        with unchanged():
            assert getattr(manager, name)(it.pk, *arguments, **expected).code == Code.STALE_VERSION
    with unchanged():
        refusal = getattr(manager, name)(it.pk, *arguments, expected_status="asleep")
        assert " now, and was asleep before. " in refusal.message
        assert getattr(manager, name)(it.pk, *arguments, expected_version="7").code == Code.BAD_VALUE
    seen = {
        "expected_status": status,
        "expected_version": queue.version,
        "expected_in": Batch.objects.filter(status=status),
    }
    assert getattr(manager, name)(it.pk, *arguments, **seen) is True
    assert_consistent()


def test_a_repeat_with_the_same_id_is_made_once(manager):
    source, repeat_id = make_batch("source", 3), uuid.UUID(int=7)
    first = manager.repeat_batch(source.pk, id=repeat_id)
    assert (first.pk, first.previous, first.total_profiles) == (repeat_id, source, 3)
    with unchanged():
        assert manager.repeat_batch(source.pk, id=repeat_id).code == Code.ALREADY_EXISTS


# The model cannot undo the manager


@pytest.mark.parametrize("fields", [None, ["name", "status", "position", "completed_at"]])
def test_saving_an_old_instance_writes_no_field_of_the_manager(fields, manager):
    it = half_checked("queued")
    stale = Batch.objects.get(pk=it.pk)
    assert manager.complete_batch(it.pk)
    before = values_of(it.pk)
    stale.name = "renamed"
    stale.save(update_fields=fields)
    assert values_of(it.pk) == before | {"name": "renamed"}
    for column in stale._meta.concrete_fields:
        if column.name not in {"id", "name", "priority", "checker", "previous"}:
            with unchanged():
                stale.save(update_fields=[column.name])
    assert BatchManager().reorder_queue()
    assert_consistent()

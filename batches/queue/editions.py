"""Long edits of lists, which are staged in bounded transactions, then revealed by one small write.

A row of a list belongs to the editions from its `first_edition` to its `last_edition`, and everybody reads the rows of
the list's current `edition`. A long edit adds rows that begin with the next edition, and ends others with this one.
Nothing is visible until the list's `edition` grows by one. A single statement, as in a run, reads exactly one edition.

One edit is staged at a time: its `editor` holds the list until `edit_until`, which each chunk extends, and other edits
of its profiles are refused. After the edit or that time, the list is settled: ended rows, and rows of an edition that
was never revealed, are removed in small steps, by the caller, or after a kill by the next edit or a worker.

An edit of few profiles is not staged, but made in one transaction under the lock of the list.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import UUID, uuid4

from django.db import DatabaseError, transaction
from django.db.models import F
from django.db.models.functions import Now

from batches.models import NO_EDITION, ListProfile, ProfileList
from batches.text import Sentence

from .contents import INSERT_CHUNK, PREPARATION
from .members import ListChange, insert_members, remove_members
from .refusals import Code, Refused
from .sql import MEMBER, as_json, execute, json_table, taking_turns
from .values import find_list

#: Maximum rows that one transaction settles.
SETTLE_CHUNK = 2_500


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit of the profiles of a list: in the transaction of its caller, or staged by an editor."""

    list_id: UUID
    edition: int
    total: int
    editor: UUID | None = None

    def insert(self, urls: Iterable[str]) -> int:
        """Add profiles. Returns the number of new ones."""
        return insert_members(self.list_id, urls, self.edition + (self.editor is not None), self._renew)

    def remove(self, profile_ids: Iterable[int]) -> int:
        """Remove profiles. Returns the number of removed ones."""
        return remove_members(self.list_id, profile_ids, self.edition if self.editor else None, self._renew)

    def reveal(self, change: ListChange) -> None:
        """Reveal a staged edit, under the lock of the list. Raises Refused if it was interrupted for too long."""
        if self.editor is not None:
            is_settled = not change.removed
            settled = {"editor": None, "edit_until": None} if is_settled else {"edit_until": Now()}
            self._write(edition=F("edition") + 1, **settled)

    def _renew(self) -> None:
        if self.editor is not None:
            self._write(edit_until=Now() + PREPARATION)

    def _write(self, **values: object) -> None:
        held = ProfileList.objects.filter(pk=self.list_id).being_edited(self.editor)
        if not held.update(**values):
            raise Refused(Code.FENCED, Sentence("The import was interrupted for too long. Import the list again."))


def is_long(profiles: int) -> bool:
    """Whether there are too many profiles for one transaction."""
    return profiles > INSERT_CHUNK


@contextmanager
def staged(list_id: UUID) -> Iterator[Edit]:
    """Hold the list for an edit. If the block does not reveal the edit, it is removed. Raises Refused."""
    editor = uuid4()
    with transaction.atomic():
        found = find_list(list_id, lock=True)
        require_settled(found)
        ProfileList.objects.filter(pk=found.pk).update(editor=editor, edit_until=Now() + PREPARATION)
    edit = Edit(found.pk, found.edition, found.total_profiles, editor)
    try:
        yield edit
    except BaseException:  # Ctrl-C too
        with suppress(DatabaseError):
            _end(edit)
        raise
    _end(edit)


def _end(edit: Edit) -> None:
    ProfileList.objects.filter(pk=edit.list_id).being_edited(edit.editor).update(edit_until=Now())
    transaction.on_commit(lambda: settle(edit.list_id))


def require_settled(found: ProfileList) -> None:
    """Raises Refused while somebody stages an edit of the list, or its rows are being settled."""
    if found.editor is not None:
        message = Sentence(
            "The profiles of “%(list)s” are being changed. Try again when that has finished. "
            "If it was interrupted, wait for up to ten minutes.",
            list=found,
        )
        raise Refused(Code.BEING_EDITED, message)


def settle_all() -> None:
    for pk in list(ProfileList.objects.to_settle().values_list("pk", flat=True)):
        settle(pk)


def settle(list_id: UUID) -> None:
    """Remove the rows that no edition will show again, if no edit is staged. Several callers can do this at a time."""
    editor = ProfileList.objects.to_settle().filter(pk=list_id).values_list("editor", flat=True).first()
    last, has_more = 0, editor is not None
    while has_more:
        # Search without a lock: until the list is settled, its rows do not change, and no other edit has this editor.
        rows = ListProfile.everything.filter(list=list_id, pk__gt=last).order_by("pk")
        unsettled = rows.exclude(first_edition__lte=F("list__edition"), last_edition=NO_EDITION)
        ids = list(unsettled.values_list("pk", flat=True)[:SETTLE_CHUNK])
        with taking_turns(cut_log=True):
            has_more = _settle_rows(list_id, editor, ids)
        last = ids[-1] if ids else last


def _settle_rows(list_id: UUID, editor: UUID | None, ids: list[int]) -> bool:
    """Remove some unsettled rows. If none are left, the list is settled. Returns whether there may be more."""
    with transaction.atomic():
        lists = ProfileList.objects.to_settle().filter(pk=list_id, editor=editor)
        found = lists.select_for_update(no_key=True).first()
        if found is None:
            return False
        if not ids:
            lists.update(editor=None, edit_until=None)
            return False
        these, rows = f"id IN (SELECT id FROM {json_table({'id': 'bigint'})} AS row)", as_json([(pk,) for pk in ids])
        execute(
            f"DELETE FROM {MEMBER} WHERE {these} AND NOT %s BETWEEN first_edition AND last_edition",
            [rows, found.edition],
        )
        execute(f"UPDATE {MEMBER} SET last_edition = {NO_EDITION} WHERE {these}", [rows])
    return True

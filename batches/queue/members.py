"""The profiles of a list: compares them with the wanted ones, inserts and removes them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from batches.models import NO_EDITION, BatchProfile, ListProfile

from .contents import NUMBERED_ID, NUMBERED_URL, Fence, into_chunks, store_chunks
from .sql import MEMBER, PROFILE, as_json, execute, fetch_all, json_table, keeping, uuid_parameter


@dataclass(frozen=True, slots=True)
class ListChange:
    """The numbers of profiles that an edit added, removed and kept."""

    added: int = 0
    removed: int = 0
    unchanged: int = 0

    @property
    def removes_much(self) -> bool:
        """Whether it removes more than a tenth: most often, somebody chose the wrong file."""
        return self.removed * 10 > self.removed + self.unchanged

    @property
    def if_added(self) -> ListChange:
        """The change if the profiles of this comparison were added."""
        return ListChange(added=self.added, unchanged=self.unchanged + self.removed)

    @property
    def if_removed(self) -> ListChange:
        """The change if the profiles of this comparison were removed."""
        return ListChange(removed=self.unchanged, unchanged=self.removed)

    def __str__(self) -> str:
        return f"+{self.added:,} −{self.removed:,} ={self.unchanged:,}"


def compare(list_id: UUID, names: Mapping[str, str]) -> tuple[ListChange, list[int]]:
    """How the list would change if it had exactly these profiles (names by address), and the removed ones."""
    members = ListProfile.objects.filter(list=list_id).order_by("pk")
    current = array("q", members.values_list("profile_id", flat=True).iterator())  # eight bytes each
    wanted = set(find_profiles(names))
    removed = [profile_id for profile_id in current if profile_id not in wanted]
    unchanged = len(current) - len(removed)
    return ListChange(len(names) - unchanged, len(removed), unchanged), removed


def find_profiles(urls: Iterable[str]) -> Iterator[int]:
    """The IDs of the profiles with these addresses; unknown ones are left out."""
    statement = f"""SELECT profile.id FROM {json_table(NUMBERED_URL)} AS wanted JOIN {PROFILE} AS profile USING (url)
                     ORDER BY wanted.number"""
    for chunk in into_chunks(enumerate(urls)):
        yield from (profile_id for (profile_id,) in fetch_all(statement, [as_json(chunk)]))


# These functions write in bounded transactions that begin with the fence.


def insert_members(list_id: UUID, urls: Iterable[str], edition: int, fence: Fence) -> int:
    """Add the profiles of these known addresses, in this order. Returns the number of new ones."""
    return _insert_members(list_id, "url", urls, edition, fence)


def insert_members_of_batch(list_id: UUID, batch_id: UUID, fence: Fence) -> int:
    """Add the profiles of a batch, in its order, to a new list. Returns their number."""
    rows = BatchProfile.objects.filter(batch=batch_id).order_by("pk")
    profile_ids = array("q", rows.values_list("profile_id", flat=True).iterator())
    return _insert_members(list_id, "id", profile_ids, 0, fence)


def _insert_members(list_id: UUID, key: str, wanted: Iterable[Any], edition: int, fence: Fence) -> int:
    columns = NUMBERED_URL if key == "url" else NUMBERED_ID
    statement = f"""INSERT INTO {MEMBER} (list_id, profile_id, first_edition, last_edition)
                    SELECT %s, profile.id, %s, {NO_EDITION}
                      FROM {json_table(columns)} AS wanted JOIN {PROFILE} AS profile USING ({key})
                     WHERE true ORDER BY wanted.number {keeping("profile")}
                        ON CONFLICT (profile_id, list_id) DO NOTHING"""

    def store(chunk: list[Any]) -> int:
        return execute(statement, [uuid_parameter(list_id), edition, as_json(chunk)])

    return store_chunks(enumerate(wanted), store, fence)


def remove_members(list_id: UUID, profile_ids: Iterable[int], last_edition: int | None, fence: Fence) -> int:
    """Delete them, or let this edition be their last one. Returns the number of removed ones."""
    change = f"DELETE FROM {MEMBER}" if last_edition is None else f"UPDATE {MEMBER} SET last_edition = {last_edition:d}"
    statement = f"""{change} WHERE list_id = %s AND last_edition = {NO_EDITION}
                                   AND profile_id IN (SELECT id FROM {json_table({"id": "bigint"})} AS wanted)"""

    def remove(chunk: list[int]) -> int:
        return execute(statement, [uuid_parameter(list_id), as_json([(profile_id,) for profile_id in chunk])])

    return store_chunks(profile_ids, remove, fence)

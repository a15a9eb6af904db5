"""The profiles of a list: compared with those that it should have, inserted and removed.

The caller holds the transaction and the lock of the list, so that every run gets one exact version of it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar
from uuid import UUID

from batches.models import ListProfile

from .sql import MEMBER, PROFILE, ROW, as_json, execute, fetch_all, json_table, keeping_profiles, uuid_parameter

T = TypeVar("T")

#: Profiles a statement.
CHUNK = 2_500

NUMBERED_URL = {"number": "bigint", "url": "text"}


@dataclass(frozen=True, slots=True)
class ListChange:
    """How many profiles an edit added and removed, and how many stayed."""

    added: int = 0
    removed: int = 0
    unchanged: int = 0

    @property
    def removes_much(self) -> bool:
        """More than a tenth: the wrong file, more often than not."""
        return self.removed * 10 > self.removed + self.unchanged

    @property
    def if_added(self) -> ListChange:
        """Of a comparison: what adding the profiles would change."""
        return ListChange(added=self.added, unchanged=self.unchanged + self.removed)

    @property
    def if_removed(self) -> ListChange:
        """Of a comparison: what removing the profiles would change."""
        return ListChange(removed=self.unchanged, unchanged=self.removed)

    def __str__(self) -> str:
        return f"+{self.added:,} −{self.removed:,} ={self.unchanged:,}"


def compare(list_id: UUID, names: Mapping[str, str]) -> tuple[ListChange, list[int]]:
    """What would change if the list had exactly these profiles, given as names by address, and which are removed."""
    members = ListProfile.objects.filter(list=list_id).order_by("pk")
    current = array("q", members.values_list("profile_id", flat=True).iterator())  # eight bytes for each
    wanted = set(find_profiles(names))
    removed = [profile_id for profile_id in current if profile_id not in wanted]
    unchanged = len(current) - len(removed)
    return ListChange(len(names) - unchanged, len(removed), unchanged), removed


def find_profiles(urls: Iterable[str]) -> Iterator[int]:
    """The IDs of the profiles that these addresses have; nothing for an unknown one."""
    statement = f"""SELECT profile.id FROM {json_table(NUMBERED_URL)} AS wanted JOIN {PROFILE} AS profile USING (url)
                     ORDER BY wanted.number"""
    for chunk in _chunks(enumerate(urls)):
        yield from (profile_id for (profile_id,) in fetch_all(statement, [as_json(chunk)]))


def insert_members(list_id: UUID, urls: Iterable[str]) -> int:
    """Add the profiles of these known addresses, in this order. Returns how many the list did not have."""
    statement = f"""INSERT INTO {MEMBER} (list_id, profile_id)
                    SELECT %s, profile.id
                      FROM {json_table(NUMBERED_URL)} AS wanted JOIN {PROFILE} AS profile USING (url)
                     WHERE true ORDER BY wanted.number {keeping_profiles()}
                        ON CONFLICT (profile_id, list_id) DO NOTHING"""
    return sum(execute(statement, [uuid_parameter(list_id), as_json(chunk)]) for chunk in _chunks(enumerate(urls)))


def insert_members_of_batch(list_id: UUID, batch_id: UUID) -> None:
    """Add the profiles of a batch, in its order."""
    statement = f"""INSERT INTO {MEMBER} (list_id, profile_id)
                    SELECT %s, profile_id FROM {ROW} WHERE batch_id = %s ORDER BY id"""
    execute(statement, [uuid_parameter(list_id), uuid_parameter(batch_id)])


def remove_members(list_id: UUID, profile_ids: Iterable[int]) -> int:
    """Returns how many the list had. The profiles stay, with their history."""
    members = ListProfile.objects.filter(list=list_id)
    return sum(members.filter(profile__in=chunk).delete()[0] for chunk in _chunks(profile_ids, 500))


def _chunks(items: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk

"""What a list would become as a batch, before anything is stored. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from .addresses import host_of
from .found import ImportResult, ProfileAddress, Reject

SHOWN_PROFILES = 5
SHOWN_REJECTS = 20


@dataclass(frozen=True)
class Preview:
    """The list that was read, and how many of its profiles are `known`: stored already, by an earlier batch.

    `busiest` is the host with the most of the profiles, and their number.
    """

    imported: ImportResult
    known: int
    hosts: int
    busiest: tuple[str, int]

    @property
    def profiles(self) -> int:
        return len(self.imported.profiles)

    @property
    def new(self) -> int:
        return self.profiles - self.known

    @property
    def duplicates(self) -> int:
        return self.imported.duplicates

    @property
    def rejects(self) -> int:
        return len(self.imported.rejects)

    @property
    def first_profiles(self) -> Sequence[ProfileAddress]:
        return self.imported.profiles[:SHOWN_PROFILES]

    @property
    def more_profiles(self) -> int:
        return self.profiles - len(self.first_profiles)

    @property
    def first_rejects(self) -> Sequence[Reject]:
        return self.imported.rejects[:SHOWN_REJECTS]

    @property
    def more_rejects(self) -> int:
        return self.rejects - len(self.first_rejects)

    @cached_property
    def digest(self) -> str:
        return digest(self.imported)


def preview(imported: ImportResult, known: int) -> Preview:
    """What the list becomes, of whose addresses so many are stored already."""
    hosts = Counter(host_of(profile.url) for profile in imported.profiles)
    return Preview(
        imported=imported,
        known=known,
        hosts=len(hosts),
        busiest=hosts.most_common(1)[0],
    )


def digest(imported: ImportResult) -> str:
    """The same for the same profiles in the same order: whether a list is still the one that was previewed."""
    lines = (f"{profile.url}\t{profile.name}\n" for profile in imported.profiles)
    return sha256("".join(lines).encode()).hexdigest()

"""What a list would become as a batch, before anything is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from .addresses import host_of
from .imports import ImportResult, ProfileAddress, Reject

PREVIEW_PROFILES = 5
PREVIEW_REJECTS = 20


@dataclass(frozen=True)
class Preview:
    """An imported list. `known` counts the profiles that an earlier batch has stored already."""

    imported: ImportResult
    known: int

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
        return self.imported.profiles[:PREVIEW_PROFILES]

    @property
    def more_profiles(self) -> int:
        return self.profiles - len(self.first_profiles)

    @property
    def first_rejects(self) -> Sequence[Reject]:
        return self.imported.rejects[:PREVIEW_REJECTS]

    @property
    def more_rejects(self) -> int:
        return self.rejects - len(self.first_rejects)

    @property
    def hosts(self) -> int:
        return len(self._profiles_by_host)

    @property
    def busiest(self) -> tuple[str, int]:
        """The host with the most profiles, and their number."""
        return self._profiles_by_host.most_common(1)[0]

    @cached_property
    def _profiles_by_host(self) -> Counter[str]:
        return Counter(host_of(profile.url) for profile in self.imported.profiles)

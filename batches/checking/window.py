"""The profiles that a run has read and not yet checked, handed out fairly by host."""

from __future__ import annotations

from collections import Counter, defaultdict, deque

from batches.checking.checkers.base import ProfileToCheck
from batches.lists.addresses import host_of


class Window:
    """Hands out profiles so that no host has more than `per_host` of them at once, and none holds up the others.

    A list often has many addresses of one host in a row; first come, first served would leave all other hosts idle
    behind them.
    """

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._waiting: defaultdict[str, deque[ProfileToCheck]] = defaultdict(deque)
        self._ready: deque[str] = deque()  # hosts in turn, one entry for each free slot that a profile waits for
        self._taken: Counter[str] = Counter()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def ready(self) -> int:
        """How many profiles could be taken at once."""
        return len(self._ready)

    def add(self, profile: ProfileToCheck) -> None:
        host = _host(profile)
        waiting = self._waiting[host]
        waiting.append(profile)
        self._size += 1
        if self._taken[host] + len(waiting) <= self._per_host:
            self._ready.append(host)

    def take(self) -> ProfileToCheck | None:
        """The next profile whose host has a free slot, or None. Give it back with `release` after its check."""
        if not self._ready:
            return None
        host = self._ready.popleft()
        waiting = self._waiting[host]
        profile = waiting.popleft()
        if not waiting:
            del self._waiting[host]
        self._taken[host] += 1
        self._size -= 1
        return profile

    def release(self, profile: ProfileToCheck) -> None:
        """The profile's check ended: its slot goes to the next one of its host."""
        host = _host(profile)
        self._taken[host] -= 1
        if not self._taken[host]:
            del self._taken[host]
        # Those of this host that already have an entry in `_ready` have their slots.
        if len(self._waiting.get(host, ())) + self._taken[host] >= self._per_host:
            self._ready.append(host)

    def clear(self) -> None:
        self._waiting.clear()
        self._ready.clear()
        self._size = 0


def _host(profile: ProfileToCheck) -> str:
    return host_of(profile.feed_url or profile.url)

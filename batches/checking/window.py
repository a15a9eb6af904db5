"""The profiles that a run has read but not yet checked, assigned fairly by host."""

from __future__ import annotations

from collections import Counter, defaultdict, deque

from batches.checking.checkers.base import ProfileToCheck
from batches.lists.addresses import host_of


class Window:
    """Assigns at most `per_host` profiles of a host at once, and lets no host block the others.

    Lists often have many addresses of one host in a row. In list order, all other hosts would wait behind them.
    """

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._waiting: defaultdict[str, deque[ProfileToCheck]] = defaultdict(deque)
        self._ready: deque[str] = deque()  # hosts in turn, one entry for each profile with a free slot
        self._taken: Counter[str] = Counter()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def ready(self) -> int:
        """Number of profiles that `take` can return now."""
        return len(self._ready)

    def add(self, profile: ProfileToCheck) -> None:
        host = _host(profile)
        waiting = self._waiting[host]
        waiting.append(profile)
        self._size += 1
        if self._taken[host] + len(waiting) <= self._per_host:
            self._ready.append(host)

    def take(self) -> ProfileToCheck | None:
        """The next profile of a host with a free slot, or None. Call `release` after its check."""
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
        """Free the slot of a checked profile for the next profile of its host."""
        host = _host(profile)
        self._taken[host] -= 1
        if not self._taken[host]:
            del self._taken[host]
        # Profiles of this host with an entry in `_ready` have their slots already.
        if len(self._waiting.get(host, ())) + self._taken[host] >= self._per_host:
            self._ready.append(host)

    def clear(self) -> None:
        self._waiting.clear()
        self._ready.clear()
        self._size = 0


def _host(profile: ProfileToCheck) -> str:
    """The host of the address that is fetched first."""
    return host_of(profile.feed_url or profile.url)

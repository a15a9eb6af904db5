"""The profiles that a run has read but not yet checked, assigned fairly by host."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from batches.checking.checkers.base import HostPaused, ProfileToCheck
from batches.lists.domains import domain_of

#: At most this many profiles of a host count as work for the run, so that it continues reading for other hosts.
HOST_SHARE = 20
#: A host with more profiles than this is crowded: more of them would only take memory.
CROWD = 500
#: Slow hosts that are remembered while none of their profiles is in the window.
MAX_SLOW_HOSTS = 10_000


@dataclass(slots=True, eq=False)
class Turn:
    """A profile that waits for its host or is being checked. `pause` is the pause that its last attempt met, if any."""

    profile: ProfileToCheck
    host: str
    pause: HostPaused | None = None
    is_slow: bool = False


@dataclass(slots=True, eq=False)
class Host:
    name: str
    is_slow: bool = False
    taken: int = 0
    #: Its entries in the queue of assignable hosts.
    queued: int = 0
    pause: HostPaused | None = None
    paused_until: float = 0.0
    waiting: deque[Turn] = field(default_factory=deque)

    @property
    def supply(self) -> int:
        """How many of its profiles keep the run from reading on."""
        return 0 if self.is_slow or self.pause else min(len(self.waiting), HOST_SHARE)


class Window:
    """Assigns at most `per_host` profiles of a host at once, and lets no host block the others.

    Lists often have many addresses of one host in a row. In list order, all other hosts would wait behind them. Slow
    hosts are assigned at most `slow_share` profiles at once while others may come: until `add_no_more`, and while fewer
    than `capacity` profiles wait. Paused hosts are assigned none.
    """

    def __init__(self, per_host: int, slow_share: int, capacity: int) -> None:
        self._per_host = per_host
        self._slow_share = slow_share
        self._capacity = capacity
        self._is_last = False
        self._hosts: dict[str, Host] = {}
        self._slow_hosts: dict[str, None] = {}  # in the order in which they were seen
        # Hosts in turn, one entry for each profile with a free slot.
        self._quick: deque[Host] = deque()
        self._slow: deque[Host] = deque()
        self._paused: list[tuple[float, int, Host]] = []
        self._numbers = count()
        self._slow_taken = 0
        self._crowded: set[str] = set()
        self._size = 0
        #: How many profiles wait, without those of slow and paused hosts, and of each host at most HOST_SHARE.
        self.supply = 0

    def __len__(self) -> int:
        return self._size

    @property
    def is_full(self) -> bool:
        """More profiles would only take memory."""
        return self._size >= self._capacity

    @property
    def ready(self) -> int:
        """Number of profiles that `take` can return now."""
        room = len(self._slow) if self._may_exceed_share else max(0, self._slow_share - self._slow_taken)
        return len(self._quick) + min(len(self._slow), room)

    @property
    def _may_exceed_share(self) -> bool:
        """Whether slow hosts may have every slot that no other can take: no others will come."""
        return self._is_last or self.is_full

    @property
    def surplus(self) -> int:
        """How many slow profiles are assigned beyond their share while others wait that could take their places."""
        return min(max(0, self._slow_taken - self._slow_share), len(self._quick))

    def add_no_more(self) -> None:
        """All profiles have been added."""
        self._is_last = True

    @property
    def next_end_of_pause(self) -> float | None:
        return self._paused[0][0] if self._paused else None

    def add(self, profile: ProfileToCheck) -> None:
        """Its host is the registrable domain of the address that is fetched first."""
        self.put(Turn(profile, domain_of(profile.feed_url or profile.url)))

    def take_crowded(self) -> set[str]:
        """The hosts to which too many profiles were added since the last call: others should be read first."""
        crowded, self._crowded = self._crowded, set()
        return crowded

    def put(self, turn: Turn) -> None:
        """Let a profile wait for its host. If it could not be checked, call `release` before."""
        host = self._hosts.get(turn.host)
        if host is None:
            host = self._hosts[turn.host] = Host(turn.host, turn.host in self._slow_hosts)
        host.waiting.append(turn)
        self._size += 1
        if len(host.waiting) <= HOST_SHARE and not (host.is_slow or host.pause):
            self.supply += 1
        if len(host.waiting) > CROWD:
            self._crowded.add(host.name)
        self._queue(host)

    def _queue(self, host: Host) -> None:
        if host.pause:
            return
        for _ in range(min(len(host.waiting), self._per_host - host.taken) - host.queued):
            (self._slow if host.is_slow else self._quick).append(host)
            host.queued += 1

    def take(self) -> Turn | None:
        """The next profile of a host with a free slot, or None. Call `release` after its check."""
        if self._quick:
            host = self._quick.popleft()
        elif self._slow and (self._may_exceed_share or self._slow_taken < self._slow_share):
            host = self._slow.popleft()
        else:
            return None
        turn = host.waiting.popleft()
        host.queued -= 1
        host.taken += 1
        self._size -= 1
        if len(host.waiting) < HOST_SHARE and not host.is_slow:
            self.supply -= 1
        turn.is_slow = host.is_slow
        self._slow_taken += turn.is_slow
        return turn

    def release(self, turn: Turn, *, is_slow: bool | None = None) -> None:
        """Free the slot of a checked profile for the next of its host. None: the host's speed is unknown."""
        host = self._hosts[turn.host]
        host.taken -= 1
        self._slow_taken -= turn.is_slow
        if is_slow is not None and is_slow != host.is_slow:
            self._mark(host, is_slow)
        self._queue(host)
        self._forget_unused(host)

    def mark_slow(self, turn: Turn) -> None:
        """Note that its check takes long. From now on, all profiles of its host count as slow."""
        if not turn.is_slow:
            turn.is_slow = True
            self._slow_taken += 1
        self._mark(self._hosts[turn.host], True)

    def _mark(self, host: Host, is_slow: bool) -> None:
        self._slow_hosts.pop(host.name, None)
        if is_slow:
            self._slow_hosts[host.name] = None
            if len(self._slow_hosts) > MAX_SLOW_HOSTS:
                del self._slow_hosts[next(iter(self._slow_hosts))]
        if host.is_slow != is_slow:
            self._unqueue(host)
            self.supply -= host.supply
            host.is_slow = is_slow
            self.supply += host.supply
            self._queue(host)

    def pause(self, pause: HostPaused, until: float) -> None:
        """Assign no profile of its host before `until`."""
        host = self._hosts.setdefault(pause.host, Host(pause.host, pause.host in self._slow_hosts))
        if host.pause and until <= host.paused_until:
            return
        if not host.pause:
            self._unqueue(host)
            self.supply -= host.supply
        host.pause, host.paused_until = pause, until
        heappush(self._paused, (until, next(self._numbers), host))

    def end_pauses(self, now: float) -> None:
        """Assign profiles of hosts again when their pause is over."""
        while self._paused and self._paused[0][0] <= now:
            until, _, host = heappop(self._paused)
            if host.pause and until == host.paused_until:  # the pause was not extended
                host.pause = None
                self.supply += host.supply
                self._queue(host)
                self._forget_unused(host)

    def _unqueue(self, host: Host) -> None:
        if host.queued:
            queue = self._slow if host.is_slow else self._quick
            others = [other for other in queue if other is not host]
            queue.clear()
            queue.extend(others)
            host.queued = 0

    def _forget_unused(self, host: Host) -> None:
        if not (host.taken or host.waiting or host.pause):
            del self._hosts[host.name]

    def take_paused(self) -> list[tuple[Turn, HostPaused]]:
        """Remove the profiles of paused hosts."""
        taken = [(turn, host.pause) for host in self._hosts.values() if host.pause for turn in host.waiting]
        for host in self._hosts.values():
            if host.pause:
                host.waiting.clear()
        self._size -= len(taken)
        return taken

    @property
    def waiting(self) -> list[int]:
        """The IDs of the profiles whose check has not started, or waits to start again."""
        return [turn.profile.profile_id for host in self._hosts.values() for turn in host.waiting]

    def remove(self, profile_ids: Iterable[int]) -> None:
        """Remove these profiles, which wait."""
        removed = set(profile_ids)
        self._quick.clear()
        self._slow.clear()
        self._size = self.supply = 0
        for host in list(self._hosts.values()):
            host.waiting = deque(turn for turn in host.waiting if turn.profile.profile_id not in removed)
            self._size += len(host.waiting)
            self.supply += host.supply
            host.queued = 0
            self._queue(host)
            self._forget_unused(host)

    def clear(self) -> list[int]:
        """Remove all profiles that wait, and return their IDs."""
        waited = self.waiting
        self.remove(waited)
        return waited

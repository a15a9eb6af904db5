"""Politeness: limits the requests to a host at once and in a row, and honours the pauses that hosts ask for."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic

from .base import HostNote, HostPaused
from .clock import not_charged

# Hosts with a pause or an interval are remembered even while they are not in use. At most this many, of 300 bytes each.
MAX_HOSTS = 10_000
# Seconds. A host that answers 429 without Retry-After is tried again after the first pause, then after twice as long,
# and so on. A success ends this.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 900.0
# Seconds between two requests to a host that has answered 429. Doubled each time, and shortened with each success.
FIRST_INTERVAL, LONGEST_INTERVAL = 1.0, 10.0
RELIEF = 0.9
# Seconds by which two clocks may differ about the end of a pause that we have noted ourselves.
SAME_PAUSE = 1.0
# A host that says "in ten years" is tried again after a week.
MAX_RETRY_AFTER = 7 * 24 * 3600.0


@dataclass(slots=True)
class Manners:
    """The limits that a host has asked for. Times are those of `monotonic`."""

    paused_until: float = 0.0
    reason: str = ""
    refusals: int = 0  # without a success in between
    interval: float = 0.0
    next_request: float = 0.0
    last_status: int | None = None


class HostSlots:
    """Slots per host, which here is a registrable domain: a site has many names.

    Forgets hosts that are neither in use nor have asked for limits.
    """

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        #: Whether another process may be checking this domain at the same time, since a redirect can lead to any
        #: domain.
        self.is_foreign: Callable[[str], bool] = lambda name: False
        self._taken: dict[str, int] = {}
        self._waiting: defaultdict[str, deque[asyncio.Future[None]]] = defaultdict(deque)
        self._manners: dict[str, Manners] = {}
        self._changed: set[str] = set()

    async def take_slot(self, name: str) -> None:
        """Hold a slot of the host until `release`. Waiting for it is not charged. Raises HostPaused during a pause."""
        taken = self._taken.get(name, 0)
        if not taken or (taken < self._per_host and not self.is_foreign(name)):
            self._taken[name] = taken + 1
        else:
            self._require_no_pause(name)
            await self._wait_for_slot(name)
        try:
            if name in self._manners:
                # While holding the slot, since the host may have asked its previous holder to wait.
                self._require_no_pause(name)
                await self._keep_interval(name)
        except BaseException:
            self.release(name)
            raise

    async def _wait_for_slot(self, name: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting[name].append(turn)
        try:
            with not_charged():
                await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it got its slot at the same moment
                self.release(name)
            raise

    def release(self, name: str) -> None:
        """Give the slot to the check that has waited longest, if any."""
        waiting = self._waiting.get(name, ())
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._waiting.pop(name, None)
        self._taken[name] -= 1
        if not self._taken[name]:
            del self._taken[name]

    def _require_no_pause(self, name: str) -> None:
        manners = self._manners.get(name)
        seconds = manners.paused_until - monotonic() if manners else 0.0
        if manners and seconds > 0:
            raise HostPaused(name, seconds, manners.reason)

    async def _keep_interval(self, name: str) -> None:
        manners = self._manners[name]
        now = monotonic()
        start = max(now, manners.next_request)
        manners.next_request = start + manners.interval
        if start > now:
            with not_charged():
                await asyncio.sleep(start - now)
            self._require_no_pause(name)

    def note_refusal(self, name: str, status: int, retry_after: float) -> None:
        """The host has answered 429 or 503, with a Retry-After in seconds or 0.

        Raises HostPaused if that begins a pause.
        """
        if not retry_after and status != 429:
            return
        manners = self._manners.pop(name, None) or Manners()
        self._manners[name] = manners  # at the end
        now = monotonic()
        if now >= manners.paused_until:  # of several concurrent requests, one counts
            manners.refusals += 1
            manners.interval = min(max(2 * manners.interval, FIRST_INTERVAL), LONGEST_INTERVAL)
        if retry_after:
            seconds = min(retry_after, MAX_RETRY_AFTER)
            reason = f"asked us to wait {retry_after:.0f} s"
        else:
            seconds = min(FIRST_PAUSE * 2 ** (manners.refusals - 1), LONGEST_PAUSE)
            reason = "answered 429 Too Many Requests"
        if now + seconds > manners.paused_until:
            manners.paused_until, manners.reason = now + seconds, reason
        manners.last_status = status
        self._note_change(name)
        raise HostPaused(name, manners.paused_until - now, reason, status)

    def note_answer(self, name: str, status: int) -> None:
        """The host has answered with another status."""
        manners = self._manners.get(name)
        if manners is None:
            return
        manners.refusals = 0
        manners.interval *= RELIEF
        manners.last_status = status
        if manners.interval < FIRST_INTERVAL / 2:
            manners.interval = 0.0
            if monotonic() >= manners.paused_until:
                self._note_change(name)
                del self._manners[name]

    def take_notes(self) -> list[HostNote]:
        """The limits that have changed since the last call."""
        changed, self._changed = self._changed, set()
        return [self._describe(name) for name in changed]

    def recall(self, notes: Iterable[HostNote]) -> None:
        """Remember the limits of earlier runs, or of other workers, unless our own are newer."""
        now = monotonic()
        for note in notes:
            paused_until = now + note.pause_seconds
            known = self._manners.get(note.name)
            if known is None or (note.pause_seconds and paused_until > known.paused_until + SAME_PAUSE):
                reason = f"asked us earlier to wait, for {note.pause_seconds:.0f} s more"
                self._manners[note.name] = Manners(
                    paused_until, reason, note.refusals, note.interval, last_status=note.last_status
                )
        self._forget_surplus()

    def _describe(self, name: str) -> HostNote:
        manners = self._manners.get(name) or Manners()
        pause = max(0.0, manners.paused_until - monotonic())
        return HostNote(name, pause, manners.refusals, manners.interval, manners.last_status)

    def _note_change(self, name: str) -> None:
        self._changed.add(name)
        self._forget_surplus()

    def _forget_surplus(self) -> None:
        """Forget the hosts with the oldest limits."""
        while len(self._manners) > MAX_HOSTS:
            oldest = next(iter(self._manners))
            del self._manners[oldest]
            self._changed.discard(oldest)

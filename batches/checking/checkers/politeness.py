"""Politeness: limits the requests to a host at once and in a row, and honours the pauses that hosts ask for."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isnan
from time import monotonic
from typing import NamedTuple

from .clock import not_charged
from .dates import parse_date
from .slots import Slots

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


class HostNote(NamedTuple):
    """The limits that a host asks for, stored for the next run: no request for `pause_seconds`, and at least `interval`
    seconds between two. `refusals` is how often in a row it refused, and `last_status` its last HTTP status."""

    name: str
    pause_seconds: float = 0.0
    refusals: int = 0
    interval: float = 0.0
    last_status: int | None = None


class HostPaused(Exception):
    """This host wants no request for `seconds`. The profile has not failed: it is checked when the pause is over.

    `str(error)` is the reason that people read if the batch has nothing else to do for too long. Raises TypeError for
    values of other types: they would end the batch, not only fail its profile.
    """

    def __init__(self, host: str, seconds: float, sentence: str, http_status: int | None = None) -> None:
        is_usable = isinstance(host, str) and isinstance(seconds, int | float) and isinstance(http_status, int | None)
        if not is_usable or isnan(seconds):
            given = f"{host!r}, {seconds!r} and {http_status!r}"
            raise TypeError(f"HostPaused takes a host, seconds, and an HTTP status or None, not {given}")
        super().__init__(sentence)
        self.host = host
        self.seconds = seconds
        self.http_status = http_status


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
        self.slots = Slots(per_host)
        self._manners: dict[str, Manners] = {}
        self._changed: set[str] = set()

    async def take_slot(self, name: str) -> None:
        """Hold a slot of the host until `release`. Waiting for it is not charged. Raises HostPaused during a pause."""
        if not self.slots.take(name):
            self._require_no_pause(name)
            with not_charged():
                await self.slots.wait(name)
        try:
            if name in self._manners:
                # While holding the slot, since the host may have asked its previous holder to wait.
                self._require_no_pause(name)
                await self._keep_interval(name)
        except BaseException:
            self.release(name)
            raise

    def release(self, name: str) -> None:
        self.slots.release(name)

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


def parse_retry_after(value: str) -> float:
    """Return the seconds to wait, from a Retry-After header in seconds or as an HTTP date; 0 if it is neither."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    date = parse_date(value)
    return max(0.0, (date - datetime.now(UTC)).total_seconds()) if date else 0.0

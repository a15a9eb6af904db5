"""Limits the memory for the bodies of all fetches: hosts that send megabytes at the same moment wait for each other."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

# A body up to this size never waits: there are at most as many as concurrent checks.
SMALL_BYTES = 64 * 1024


class Turn(NamedTuple):
    """A share that waits for this many bytes."""

    share: Share
    size: int
    given: asyncio.Future[None]


class Memory:
    """`size` bytes. The last `reserve` bytes are for one body at a time, which can therefore always be completed.

    Without the reserve, partly received bodies could wait for each other for ever.
    """

    def __init__(self, size: int, reserve: int) -> None:
        #: Bytes outside of the reserve. Negative while it is in use.
        self.free = size - reserve
        #: The share with the reserve: the one that had waited longest when the reserve became free.
        self._favoured: Share | None = None
        self._waiting: deque[Turn] = deque()

    def take(self, share: Share, count: int) -> bool:
        has_room = count <= self.free or share.size + count <= SMALL_BYTES or share is self._favoured
        if has_room:
            self.free -= count
        return has_room

    def release(self, share: Share, count: int) -> None:
        self.free += count
        if share is self._favoured and (self.free >= 0 or not share.size):
            self._favoured = None
        self._give_turns()

    async def wait_for_room(self, share: Share, count: int) -> None:
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(Turn(share, count, given))
        self._give_turns()
        await given

    def _give_turns(self) -> None:
        """Wake up the first shares for which there is room. Thousands may wait, and each change calls this."""
        while self._waiting:
            turn = self._waiting[0]
            if not turn.given.done():  # otherwise it was cancelled
                if not turn.share.grow(turn.size):
                    if self._favoured:
                        break
                    self._favoured = turn.share  # it gets the reserve
                    turn.share.grow(turn.size)
                turn.given.set_result(None)
            self._waiting.popleft()


class Share:
    """The memory of one body."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.size = 0

    def grow(self, count: int) -> bool:
        """Take `count` more bytes. Returns False if they are not available now."""
        has_room = self._memory.take(self, count)
        if has_room:
            self.size += count
        return has_room

    async def wait_to_grow(self, count: int) -> None:
        """If this is cancelled, close the share: it may have received the bytes already."""
        if not self.grow(count):
            await self._memory.wait_for_room(self, count)

    def resize(self, size: int) -> None:
        """Set its size without waiting. Let it grow only a little this way."""
        unused, self.size = self.size - size, size
        if unused:
            self._memory.release(self, unused)

    def close(self) -> None:
        """Release all of it. Closing twice does no harm."""
        self.resize(0)

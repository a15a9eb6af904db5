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
        self.favoured: Share | None = None
        self.waiting: deque[Turn] = deque()

    def give_turns(self) -> None:
        """Wake up the first shares for which there is room. Thousands may wait, and each change calls this."""
        while self.waiting:
            turn = self.waiting[0]
            if not turn.given.done():  # otherwise it was cancelled
                if not turn.share.grow(turn.size):
                    if self.favoured:
                        break
                    self.favoured = turn.share  # it gets the reserve
                    turn.share.grow(turn.size)
                turn.given.set_result(None)
            self.waiting.popleft()


class Share:
    """The memory of one body."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.size = 0

    def grow(self, count: int) -> bool:
        """Take `count` more bytes. Returns False if they are not available now."""
        memory = self._memory
        has_room = count <= memory.free or self.size + count <= SMALL_BYTES or self is memory.favoured
        if has_room:
            memory.free -= count
            self.size += count
        return has_room

    async def wait_to_grow(self, count: int) -> None:
        """If this is cancelled, close the share: it may have received the bytes already."""
        if not self.grow(count):
            turn = Turn(self, count, asyncio.get_running_loop().create_future())
            self._memory.waiting.append(turn)
            self._memory.give_turns()
            await turn.given

    def resize(self, size: int) -> None:
        """Set its size without waiting. Let it grow only a little this way."""
        memory, unused = self._memory, self.size - size
        self.size = size
        if unused:
            memory.free += unused
            if self is memory.favoured and (memory.free >= 0 or not size):
                memory.favoured = None
            memory.give_turns()

    def close(self) -> None:
        """Release all of it. Closing twice does no harm."""
        self.resize(0)

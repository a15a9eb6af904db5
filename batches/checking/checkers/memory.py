"""Room in memory for the bodies of all fetches: hosts that send megabytes at the same moment wait for each other."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

# A body up to this size always has room: there are only as many of them as checks at once.
SMALL_BYTES = 64 * 1024


class Turn(NamedTuple):
    """Who waits for how many bytes."""

    share: Share
    size: int
    given: asyncio.Future[None]


class Memory:
    """`size` bytes, the last `reserve` of them for one body at a time, which can therefore always be finished.

    Without the reserve, bodies that are received in part could wait for each other for ever.
    """

    def __init__(self, size: int, reserve: int) -> None:
        #: Bytes outside of the reserve. Negative while it is in use.
        self.free = size - reserve
        #: Has the reserve: the one that had waited longest when it became free.
        self._favoured: Share | None = None
        self._waiting: deque[Turn] = deque()

    def take(self, share: Share, count: int) -> bool:
        has_room = count <= self.free or share.size + count <= SMALL_BYTES or share is self._favoured
        if has_room:
            self.free -= count
        return has_room

    def give_back(self, share: Share, count: int) -> None:
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
        """Wake up those for whom there is room, the first ones only: thousands may wait, and each change comes here."""
        while self._waiting:
            turn = self._waiting[0]
            if not turn.given.done():  # otherwise it was cancelled
                if not (turn.share.grow(turn.size) or self._favour(turn)):
                    break
                turn.given.set_result(None)
            self._waiting.popleft()

    def _favour(self, turn: Turn) -> bool:
        """Give it the reserve, if nobody has it."""
        if self._favoured:
            return False
        self._favoured = turn.share
        return turn.share.grow(turn.size)


class Share:
    """The room that one body has."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.size = 0

    def grow(self, count: int) -> bool:
        """Take room for `count` more bytes. Returns False if there is none now."""
        has_room = self._memory.take(self, count)
        if has_room:
            self.size += count
        return has_room

    async def wait_to_grow(self, count: int) -> None:
        """If this is cancelled, the share has to be closed: it may have the room already."""
        if not self.grow(count):
            await self._memory.wait_for_room(self, count)

    def resize(self, size: int) -> None:
        """Set what it takes from now on, without waiting. Let it grow only a little this way."""
        unused, self.size = self.size - size, size
        self._memory.give_back(self, unused)

    def close(self) -> None:
        """Give all of it back. Closing twice changes nothing."""
        if self.size:
            size, self.size = self.size, 0
            self._memory.give_back(self, size)

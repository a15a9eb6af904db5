"""Room in memory for the bodies of all fetches: hosts that send megabytes at the same moment wait for each other."""

from __future__ import annotations

import asyncio

# A body up to this size always has room: there are only as many of them as checks at once.
SMALL_BYTES = 64 * 1024


class Memory:
    """`size` bytes, the last `reserve` of them for one body at a time, which can therefore always be finished.

    Without the reserve, bodies that are received in part could wait for each other for ever.
    """

    def __init__(self, size: int, reserve: int) -> None:
        #: Bytes outside of the reserve. Negative while it is in use.
        self.free = size - reserve
        self._favoured: Share | None = None
        self._waiting: list[asyncio.Future[None]] = []

    def favour(self, share: Share) -> bool:
        """Whether this share may use the reserve from now on."""
        if self._favoured is None:
            self._favoured = share
        return self._favoured is share

    def take(self, share: Share, count: int) -> bool:
        has_room = count <= self.free or share.size + count <= SMALL_BYTES or share is self._favoured
        if has_room:
            self.free -= count
        return has_room

    def give_back(self, share: Share, count: int) -> None:
        self.free += count
        if share is self._favoured:
            self._favoured = None
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    async def wait_for_change(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn


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
        while not self.grow(count):
            if not self._memory.favour(self):
                await self._memory.wait_for_change()

    def resize(self, size: int) -> None:
        """Set what it takes from now on, without waiting. Let it grow only a little this way."""
        self._memory.free += self.size - size
        self.size = size

    def close(self) -> None:
        """Give all of it back. Closing twice changes nothing."""
        if self.size:
            size, self.size = self.size, 0
            self._memory.give_back(self, size)

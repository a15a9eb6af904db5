"""Renews the lease of a run in a separate thread, which neither a document nor a blocked event loop delays."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from typing import Self

from django.db import Error, connections

from batches.models import discard_connections
from batches.queue.refusals import Refusal

logger = logging.getLogger(__name__)

#: Seconds between two signs of the event loop that it is not blocked.
LOOP_INTERVAL = 0.5
#: Seconds between two beats, if the lease is not shorter than three of them: a pause soon stops the checks, not only
#: their recording.
INTERVAL = 2.0


@dataclass(kw_only=True, eq=False)
class Heartbeat:
    """A block that calls `beat` well within each `lease` (seconds), and `on_refused` in the loop after a refusal.

    `renewed` is the time of the claim, by `monotonic`. `is_valid` says whether the last beat is less than `lease`
    seconds ago, so that nobody has taken over. `on_lapsed` is called when the lease has expired, and `on_renewed` after
    each beat that has renewed it.

    While the loop is blocked for more than `patience` seconds, there are no beats, so that another worker takes over.
    """

    beat: Callable[[], object]
    renewed: float
    lease: float
    patience: float
    on_refused: Callable[[Refusal], None]
    on_lapsed: Callable[[], None]
    on_renewed: Callable[[], None]

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=copy_context().run, args=[self._run], name="heartbeat", daemon=True)

    @property
    def is_valid(self) -> bool:
        """A process that was frozen for longer than its lease notices here, before it sends requests again."""
        return time.monotonic() - self.renewed < self.lease

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._show_life()
        self._watch_lease()
        self._thread.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Does not wait for a beat that waits for the database."""
        self._ended.set()
        self._timer.cancel()
        self._end_of_lease.cancel()

    def note_renewal(self, began: float) -> None:
        """Note that another call, which began at this time of `monotonic`, has renewed the lease."""
        self.renewed = max(self.renewed, began)

    def _show_life(self) -> None:
        self._seen = time.monotonic()
        self._timer = self._loop.call_later(LOOP_INTERVAL, self._show_life)

    def _watch_lease(self) -> None:
        left = self.renewed + self.lease - time.monotonic()
        if left <= 0:
            self.on_lapsed()
        self._end_of_lease = self._loop.call_later(left if left > 0 else LOOP_INTERVAL, self._watch_lease)

    def _run(self) -> None:
        was_blocked = False
        try:
            while not self._ended.wait(min(INTERVAL, self.lease / 3)):
                is_blocked = time.monotonic() - self._seen > self.patience
                if not is_blocked:
                    self._call()
                elif not was_blocked:
                    logger.error("The event loop has been blocked for more than %g s. The lease ends.", self.patience)
                was_blocked = is_blocked
        except RuntimeError:
            if not self._loop.is_closed():  # if the worker has ended while this call waited for the database
                raise
        finally:
            connections.close_all()

    def _call(self) -> None:
        began = time.monotonic()
        try:
            answer = self.beat()
        except Error as error:  # also while a migration runs
            logger.warning("The lease could not be renewed: %s", str(error).strip())
            discard_connections()
            return
        if self._ended.is_set():
            return
        if isinstance(answer, Refusal):
            self._ended.set()
            self._loop.call_soon_threadsafe(self.on_refused, answer)
            return
        self.renewed = began
        # Each time, not only if the lease had expired: it may also expire during the beat.
        self._loop.call_soon_threadsafe(self.on_renewed)

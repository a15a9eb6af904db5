"""Delivers what waits in the outbox of the webhooks, beside whatever else the worker does.

A receiver that hangs costs nobody else anything: it holds a few slots until the time-out, in the same loop as the
checks but apart from them. What goes wrong here is logged, and never stops a batch or the worker.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from batches.checking.checkers.fetch import (
    FAULTS,
    REDIRECTS,
    FetchError,
    describe_status,
    explain_fault,
    guarded_session,
    parse_url,
    retry_after,
)
from batches.conf import Config
from batches.limits import MAX_ERROR
from batches.models import DATABASE_FAULTS, Database
from batches.text import clean_text

from . import outbox
from .outbox import Answer, Claim
from .signatures import sign

logger = logging.getLogger(__name__)

#: Seconds that a receiver has for the head of its answer; what follows is not read.
TIMEOUT = 15.0
#: Seconds after which a claimed delivery is taken to be lost. Well above the time-out, since a settlement may have to
#: wait for the database.
VISIBILITY = 60.0
#: Deliveries at once, in all and for each webhook.
AT_ONCE, PER_WEBHOOK = 20, 2
#: Seconds between two looks for old deliveries, and after a fault of our own.
BETWEEN_PRUNINGS, AFTER_FAULT = 3600.0, 15.0


@asynccontextmanager
async def delivering(config: Config, database: Database, stop: asyncio.Event) -> AsyncIterator[None]:
    """Deliver beside what is done within. At its end, what is due and what is under way get the grace period; when
    `stop` is set, only what is under way."""
    courier = Courier(config, database, stop)
    work = asyncio.create_task(courier.work())
    try:
        yield
        courier.finish()
        await work
    finally:  # told to stop at once: what is under way is sent again
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


class Courier:
    """Claims what is due, sends it signed, and settles it."""

    def __init__(
        self,
        config: Config,
        database: Database,
        stop: asyncio.Event,
        *,
        timeout: float = TIMEOUT,
        visibility: float = VISIBILITY,
        at_once: int = AT_ONCE,
        per_webhook: int = PER_WEBHOOK,
    ) -> None:
        self._config = config
        self._database = database
        self._stop = stop
        self._timeout = timeout
        self._visibility = visibility
        self._at_once = at_once
        self._per_webhook = per_webhook
        self._under_way: dict[asyncio.Task[None], Claim] = {}
        self._finishing = False
        self._wake = asyncio.Event()
        self._next_pruning = 0.0

    def finish(self) -> None:
        """Let `work` come to its end."""
        self._finishing = True
        self._wake.set()

    async def work(self) -> None:
        """Deliver until told to finish or to stop. Faults are logged, none is raised."""
        try:
            self._session = guarded_session(
                self._config,
                self._timeout,
                {"Content-Type": "application/json", "Accept": "*/*", "Accept-Encoding": "identity"},
            )
        except Exception:
            logger.exception("Webhooks are not delivered")
            return
        async with self._session:
            try:
                while not (self._finishing or self._stop.is_set()):
                    await self._pause(await self._go_on())
                await self._end()
            finally:
                await self._give_up()

    async def _go_on(self) -> float:
        """Begin what is due. Returns for how many seconds to pause."""
        self._wake.clear()
        try:
            await self._begin_due()
            await self._prune()
        except DATABASE_FAULTS:
            pass  # the database is away and we are stopping
        except Exception:
            logger.exception("Webhooks could not be delivered, next try in %g s", AFTER_FAULT)
            return AFTER_FAULT
        return self._config.poll_seconds

    async def _pause(self, seconds: float) -> None:
        """Until a delivery has ended and makes room, or something may be due."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _end(self) -> None:
        if self._under_way:
            logger.info("Webhooks under way get %g s to be answered", self._config.grace_seconds)
        try:
            async with asyncio.timeout(self._config.grace_seconds):
                while True:
                    await self._go_on()
                    if not self._under_way:
                        break
                    await self._wake.wait()
        except TimeoutError:
            logger.info("Webhook deliveries that had no answer yet are sent again later: %d", len(self._under_way))

    async def _give_up(self) -> None:
        """What had no answer falls due again when its claim runs out."""
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin_due(self) -> None:
        room = self._at_once - len(self._under_way)
        if room <= 0 or self._stop.is_set():
            return
        under_way = Counter(claim.webhook_id for claim in self._under_way.values())
        claims = await self._database(outbox.claim_due, room, under_way, self._per_webhook, self._visibility)
        for claim in claims:
            task = asyncio.create_task(self._deliver(claim))
            self._under_way[task] = claim
            task.add_done_callback(self._after_delivery)

    async def _prune(self) -> None:
        if time.monotonic() >= self._next_pruning and not (self._finishing or self._stop.is_set()):
            has_more = await self._database(outbox.prune)
            self._next_pruning = time.monotonic() + (0.0 if has_more else BETWEEN_PRUNINGS)

    def _after_delivery(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._wake.set()

    async def _deliver(self, claim: Claim) -> None:
        try:
            answer = await self._send(claim)
            await self._database(outbox.settle, claim, answer)
            _log(claim, answer)
        except DATABASE_FAULTS:
            pass  # the database is away and we are stopping: it is sent again
        except Exception:
            logger.exception("What became of a delivery to “%s” could not be recorded", claim.webhook)

    async def _send(self, claim: Claim) -> Answer:
        body = claim.payload.encode()
        try:
            url = parse_url(claim.url, "the address")
            headers = signed_headers(claim, body, int(time.time()))
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                wait = retry_after(response.headers.get("Retry-After", ""))
                return Answer(response.status, _problem(response.status), wait)
        except FetchError as error:
            return Answer(None, str(error))
        except FAULTS as fault:
            return Answer(None, str(explain_fault(fault, self._timeout)))
        except Exception as error:  # it must count as an attempt, or it would be tried for ever
            logger.exception("A delivery to “%s” could not be sent", claim.webhook)
            return Answer(None, f"could not be sent: {type(error).__name__}: {clean_text(error, MAX_ERROR)}")


def signed_headers(claim: Claim, body: bytes, timestamp: int) -> dict[str, str]:
    signatures = [sign(secret, claim.event_id, timestamp, body) for secret in claim.secrets]
    return {
        "webhook-id": claim.event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def _problem(status: int) -> str:
    if 200 <= status < 300:
        return ""
    return describe_status(status) + (", and redirects are not followed" if status in REDIRECTS else "")


def _log(claim: Claim, answer: Answer) -> None:
    if answer.error:
        logger.warning("Webhook “%s”, %s, attempt %d: %s", claim.webhook, claim.type, claim.attempt, answer.error)
    else:
        logger.info("Webhook “%s”, %s: delivered", claim.webhook, claim.type)

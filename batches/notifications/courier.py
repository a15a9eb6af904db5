"""Delivers the outbox while the worker does its other work.

A receiver that hangs does not delay others: it occupies a few slots until the timeout, separate from the checks in the
same event loop. Errors are logged and never stop a batch or the worker.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import KW_ONLY, dataclass
from threading import Thread

from batches.checking.checkers.base import FetchError
from batches.checking.checkers.client import Client
from batches.checking.checkers.fetch import REDIRECTS, describe_status
from batches.checking.checkers.politeness import parse_retry_after
from batches.checking.checkers.target import parse_url
from batches.conf import Config
from batches.limits import MAX_ERROR
from batches.lists.addresses import host_of
from batches.metrics import DELIVERIES
from batches.models import DATABASE_FAULTS, Database, Subscription, Webhook, WebhookDelivery
from batches.text import clean_text

from . import outbox
from .chats import send_chat
from .mail import send_mail
from .outbox import AttemptResult
from .signatures import sign

logger = logging.getLogger(__name__)

HEADERS = ("Content-Type: application/json", "Accept: */*")
#: Seconds to wait after an error of our own.
FAULT_PAUSE = 15.0
#: Of the channels other than webhooks.
SENDERS: Mapping[str, Callable[[WebhookDelivery], AttemptResult]] = {
    Subscription.Channel.EMAIL: send_mail,
    Subscription.Channel.APPRISE: send_chat,
}


@asynccontextmanager
async def delivering(config: Config, database: Database, stop: asyncio.Event) -> AsyncIterator[None]:
    """Deliver in the background of the `async with` block.

    When the block ends, due deliveries and those in flight get the grace period; if `stop` is set, only those in
    flight.
    """
    courier = Courier(config, database, stop)
    work = asyncio.create_task(courier.work())
    try:
        yield
        courier.finish()
        await work
    finally:  # when cancelled, deliveries in flight are sent again later
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


@dataclass(eq=False)
class Courier:
    """Claims due deliveries, sends them, and settles them."""

    config: Config
    database: Database
    stop: asyncio.Event
    _: KW_ONLY
    #: Seconds within which a receiver has to send the headers of its response; the body is not read.
    timeout: float = 15.0
    #: Seconds for all steps of a message by other channels.
    message_timeout: float = 40.0
    #: Concurrent deliveries: in total and for each receiver.
    max_concurrent: int = 20
    max_per_receiver: int = 2

    def __post_init__(self) -> None:
        self._in_flight: dict[asyncio.Task[None], WebhookDelivery] = {}
        self._finishing = False
        self._wake = asyncio.Event()

    def finish(self) -> None:
        """Make `work` end after a last round."""
        self._finishing = True
        self._wake.set()

    async def work(self) -> None:
        """Deliver until `finish` is called or `stop` is set. Faults are logged, never raised."""
        try:
            self._client = Client(self.config, HEADERS, timeout=self.timeout)
        except Exception:
            logger.exception("Messages are not delivered")
            return
        async with self._client:
            try:
                while not (self._finishing or self.stop.is_set()):
                    pause = await self._run_once()
                    with suppress(TimeoutError):  # or until a delivery has ended and made room
                        async with asyncio.timeout(pause):
                            await self._wake.wait()
                await self._drain()
            finally:  # cancelled deliveries are due again after the visibility timeout
                for task in self._in_flight:
                    task.cancel()
                await asyncio.gather(*self._in_flight, return_exceptions=True)

    async def _run_once(self) -> float:
        """Start due deliveries. Returns the seconds to wait before the next round."""
        self._wake.clear()
        try:
            await self._start_due()
        except DATABASE_FAULTS:
            pass  # stopping while the database is unavailable
        except Exception:
            logger.exception("Messages could not be delivered, next try in %g s", FAULT_PAUSE)
            return FAULT_PAUSE
        return self.config.poll_seconds

    async def _drain(self) -> None:
        if self._in_flight:
            logger.info("Deliveries in flight get %g s to finish", self.config.grace_seconds)
        try:
            async with asyncio.timeout(self.config.grace_seconds):
                while True:
                    await self._run_once()
                    # A delivery that ended during this round has made room for another.
                    if not (self._in_flight or self._wake.is_set()):
                        break
                    await self._wake.wait()
        except TimeoutError:
            logger.info("Deliveries without a response, to be sent again: %d", len(self._in_flight))

    async def _start_due(self) -> None:
        free = self.max_concurrent - len(self._in_flight)
        if free <= 0 or self.stop.is_set():
            return
        in_flight = Counter(map(outbox.receiver_of, self._in_flight.values()))
        for claim in await self.database(outbox.claim_due, free, in_flight, self.max_per_receiver):
            task = asyncio.create_task(self._deliver(claim))
            self._in_flight[task] = claim
            task.add_done_callback(self._after_delivery)

    def _after_delivery(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        self._wake.set()

    async def _deliver(self, claim: WebhookDelivery) -> None:
        try:
            result = await self._send(claim)
            await self.database(outbox.settle, claim, result)
            DELIVERIES.labels("failed" if result.error else "ok").inc()
            if result.error:
                failure = name_receiver(claim), claim.type, claim.attempts, result.error
                logger.warning("%s, %s, attempt %d: %s", *failure)
            else:
                logger.info("%s, %s: delivered", name_receiver(claim), claim.type)
        except DATABASE_FAULTS:
            pass  # stopping while the database is unavailable: sent again later
        except Exception:
            logger.exception("The outcome of a delivery could not be recorded: %s", name_receiver(claim))

    async def _send(self, claim: WebhookDelivery) -> AttemptResult:
        timeout = self.timeout if claim.webhook else self.message_timeout
        try:
            async with asyncio.timeout(timeout):
                if claim.webhook:
                    return await self._post(claim, claim.webhook)
                return await send_in_own_thread(claim)
        except FetchError as error:
            return AttemptResult(None, str(error))
        except TimeoutError:
            return AttemptResult(None, f"did not answer within {timeout:g} s")
        except Exception as error:  # counts as an attempt; otherwise it would be retried forever
            logger.exception("A delivery could not be sent: %s", name_receiver(claim))
            return AttemptResult(None, f"could not be sent: {type(error).__name__}: {clean_text(error, MAX_ERROR)}")

    async def _post(self, claim: WebhookDelivery, webhook: Webhook) -> AttemptResult:
        url = parse_url(webhook.url, "the address")
        body = claim.payload.encode()
        headers = sign(outbox.signing_secrets(webhook), str(claim.event_id), int(time.time()), body)
        lines = [f"{name}: {value}" for name, value in headers.items()]
        with self._client.chain() as transfer:
            answer = await self._client.request(transfer, url, lines, data=body)
        wait = parse_retry_after(answer.headers.get("Retry-After", ""))
        error = "" if 200 <= answer.status < 300 else describe_status(answer.status)
        if answer.status in REDIRECTS:
            error += ", and redirects are not followed"
        return AttemptResult(answer.status, error, wait)


async def send_in_own_thread(claim: WebhookDelivery) -> AttemptResult:
    """If the caller is cancelled, the thread goes on: a mail server that hangs must not keep a worker from stopping."""
    future: Future[AttemptResult] = Future()
    future.set_running_or_notify_cancel()

    def send() -> None:
        try:
            future.set_result(send_message(claim))
        except BaseException as error:  # raised where the result is awaited
            future.set_exception(error)

    Thread(target=send, name="message", daemon=True).start()
    return await asyncio.wrap_future(future)


def send_message(claim: WebhookDelivery) -> AttemptResult:
    """Blocks."""
    assert claim.subscription is not None
    channel = claim.subscription.channel
    if channel not in SENDERS:  # a newer version has stored it
        return AttemptResult(None, f"this version does not know the channel “{channel}”")
    return SENDERS[channel](claim)


def name_receiver(claim: WebhookDelivery) -> str:
    if claim.webhook:  # its address may have a key
        return f"Webhook “{claim.webhook.name or host_of(claim.webhook.url)}”"
    return claim.subscription.as_sentence if claim.subscription else ""

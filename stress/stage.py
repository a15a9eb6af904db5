"""The stage of one fault: a queue with work, the processes that act on it, and the watcher."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from django.db import DatabaseError, connection, connections, transaction

from batches.batch_manager import BatchManager
from batches.models import (
    Attempt,
    Batch,
    BatchLog,
    BatchProfile,
    EndedLease,
    Lease,
    Loan,
    Partition,
    Profile,
    Queue,
    StoryResult,
    Worker,
)
from batches.reports.doctor import diagnose

from . import audit, callers, child, databases, server, site, watcher, worker
from .child import Setup, Task
from .databases import Database
from .environment import LEASE_SECONDS, PER_HOST, POLL_SECONDS, TOLERANCE

#: Processes are forked from one that has loaded Django and has no connection.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([child.__name__])

#: Seconds to wait for anything. Anything that takes longer hangs.
PATIENCE = 60.0

#: Seconds that the queue may stall while workers die and freeze.
TAKEOVER_SECONDS = LEASE_SECONDS + POLL_SECONDS + TOLERANCE

MAX_BREACHES = 5
MAX_EVENTS = 200

PROFILES, DELAY_MS = 24, 15

#: The tables to empty between two stages; a table comes before the tables that it refers to.
TABLES = (
    *(BatchLog, StoryResult, Attempt, EndedLease, Partition, Loan, Lease, BatchProfile),
    *(Batch, Profile, Queue, Worker),
)

Status = Batch.Status
Event = tuple[Any, ...]


class Actor:
    """A process of the harness. `receive` yields its new events, and ("ended", time, exit code) when it ends."""

    def __init__(self, task: Task, setup: Setup, *arguments: Any) -> None:
        self.task = task.__name__
        self.link, theirs = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=child.begin, args=(task, theirs, setup, *arguments), daemon=True)
        self.process.start()
        theirs.close()
        self.is_over = False

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.process.pid or 0, number)

    def thaw(self) -> None:
        """Wake a process that freezes itself. Wait until it is frozen, or it would sleep for ever."""
        state = Path(f"/proc/{self.process.pid}/stat")
        while state.exists() and b") T " not in state.read_bytes():
            time.sleep(0.001)
        self.signal(signal.SIGCONT)

    def send(self, message: Any) -> None:
        with suppress(BrokenPipeError):
            self.link.send(message)

    def receive(self) -> Iterator[Event]:
        has_ended = wait_for([self.process.sentinel], 0)
        with suppress(EOFError, ConnectionResetError):
            while self.link.poll():
                yield self.link.recv()
        if has_ended and not self.is_over:
            self.is_over = True
            self.process.join()
            yield "ended", time.monotonic(), self.process.exitcode

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.join()
        self.is_over = True


@dataclass
class House:
    """The database and the servers that all stages of a database share."""

    database: Database
    server: server.Server
    log: Path
    credentials: callers.Credentials


class Stage:
    """Starts with an empty queue. Kills the remaining processes when it ends.

    `config` is for the processes, of which `workers` share each batch. `seed` decides the choices of all.
    """

    def __init__(
        self, house: House, mutant: str = "", config: Mapping[str, Any] | None = None, workers: int = 2, seed: str = ""
    ) -> None:
        self.house = house
        self.mutant = mutant
        self.config = config
        self.workers = workers
        self.seed = seed
        #: Another database for the processes that start from now on; "" for the database of the house.
        self.url = ""
        #: The reason if the fault could not be tried, and the number of tries.
        self.not_tried, self.tried = "", 0
        self.breaches: list[str] = []
        #: Seconds from each fault until the queue recovered.
        self.recoveries: list[float] = []
        self.snapshots, self.longest_stall = 0, 0.0
        #: How often each outcome of a call occurred.
        self.responses: Counter[str] = Counter()
        #: How many requests a host may get at once.
        self.at_once = PER_HOST
        self.server = house.server
        #: Every process that was started, including the watcher.
        self.actors: list[Actor] = []
        self._events: list[tuple[Actor, Event]] = []
        self._is_settled = False
        self._site: Actor | None = None
        #: When each caller last got a response, in the time of `time.monotonic`.
        self._last_response: dict[Actor, float] = {}
        #: The addresses of the profiles in the batches that the API client has ordered.
        self._ordered: list[str] = []
        self._number = count(1)
        self._watcher: Actor | None = None
        self.manager = BatchManager(actor="harness")

    def __enter__(self) -> Self:
        random.seed(self.seed)
        databases.use(self.house.database.patient_url)
        empty_tables()
        self.server.get(server.FORGET)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for actor in self.actors:
            actor.kill()

    # Processes

    def start(self, task: Task, *arguments: Any, host: str = "") -> Actor:
        """`host`: the network namespace to start it in."""
        setup = Setup(
            self.url or self.house.database.url,
            self.house.log,
            "" if task is watcher.watch else self.mutant,
            self.config,
            f"{self.seed} {len(self.actors)}",
            host,
        )
        actor = Actor(task, setup, *arguments)
        self.actors.append(actor)
        return actor

    def serve_at(self, hosts: Sequence[str]) -> None:
        """From now on, the profiles are at these addresses."""
        if event := self.wait_for_event(self.start(server.serve, hosts), "serving"):
            self.server = server.Server(event[2], hosts)

    def start_worker(self, plan: worker.Plan | None = None) -> Actor:
        return self.start(worker.work, plan, self.workers)

    def start_workers(self, plan: Callable[[], worker.Plan | None] = lambda: None) -> None:
        """Start the workers, which share each batch, and the callers."""
        for _ in range(self.workers):
            self.start_worker(plan())
        self.start_callers()

    def start_callers(self) -> None:
        """Start the web application and a caller for each channel."""
        if self._site is not None:
            return
        self._site = self.start(site.serve)
        if event := self.wait_for_event(self._site, "listening"):
            address, credentials = f"http://127.0.0.1:{event[2]}", self.house.credentials
            base = self.server.url(0, f"/{DELAY_MS}")
            using_channels = [
                self.start(callers.use_admin, address, credentials),
                self.start(callers.use_api, address, credentials, base),
                self.start(callers.use_terminal),
            ]
            self._last_response = dict.fromkeys(using_channels, 0.0)

    def stop_callers(self) -> None:
        """Stop the callers after each of them has got one more response."""
        now = time.monotonic()
        self.wait(lambda: all(at > now for at in self._last_response.values()), "a channel does not respond")
        for actor in self._last_response:
            actor.send("stop")
        self.wait(lambda: all(actor.is_over for actor in self._last_response), "callers did not end")
        if self._site is not None:
            self._site.kill()
        self._site, self._last_response = None, {}

    def watch(self, limit: float | None) -> None:
        """Limit the seconds that the queue may stall from now on; None means no limit."""
        self._get_watcher().send(limit)

    def pause_watcher(self) -> None:
        """Pause the watcher and close its connection until the next call of `watch`."""
        self._get_watcher().send(watcher.BLINK)
        self.wait_for_event(self._get_watcher(), watcher.BLINK)

    def _get_watcher(self) -> Actor:
        self._watcher = self._watcher or self.start(watcher.watch)
        return self._watcher

    def listen(self, seconds: float = 1.0) -> list[tuple[Actor, Event]]:
        """Return the new events, waiting up to `seconds` for the first."""
        self._collect(seconds)
        events, self._events = self._events, []
        return events

    def wait(self, condition: Callable[[], Any], otherwise: str, seconds: float = PATIENCE) -> None:
        """Wait until the condition holds. Taking too long is a breach."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                self.breach(otherwise)
                return
            self._collect(0.02)

    def wait_for_event(self, actor: Actor, kind: str, seconds: float = PATIENCE) -> Event | None:
        """Return the next event of this kind from the actor. It is a breach if the actor ends or sends nothing."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for entry in self._events:
                if entry[0] is actor and entry[1][0] in {kind, "ended"}:
                    self._events.remove(entry)
                    if entry[1][0] == kind:
                        return entry[1]
                    self.breach(f"{actor.task} ended with {entry[1][2]} before it sent “{kind}”")
                    return None
            self._collect(0.05)
        self.breach(f"{actor.task} did not send “{kind}” within {seconds:.1f} s")
        return None

    def wait_for_any(
        self, *kinds: str, since: float | None = None, seconds: float = PATIENCE, refill: bool = True
    ) -> tuple[Actor, float] | None:
        """Return the first actor to send one of these, from now on or since an instant, and when. It is a breach if no
        actor does.

        `refill` keeps the queue filled while waiting.
        """
        now = time.monotonic()
        while time.monotonic() < now + seconds:
            for actor, (kind, at, *_) in self._events:
                if kind in kinds and at >= (now if since is None else since):
                    return actor, at
            if refill:
                self.refill()
            self._collect(0.05)
        self.breach(f"nobody sent {' or '.join(kinds)} within {seconds:.1f} s")
        return None

    def _collect(self, seconds: float) -> None:
        """Collect new events, and drop the oldest so that they are not taken for new ones."""
        live = [actor for actor in self.actors if not actor.is_over]
        wait_for([item for actor in live for item in (actor.link, actor.process.sentinel)], seconds)
        for actor in live:
            for event in actor.receive():
                self._note(actor, event)
        del self._events[:-MAX_EVENTS]

    def _note(self, actor: Actor, event: Event) -> None:
        kind, *values = event
        if kind == "breach":
            self.breach(values[0])
        elif kind == "ordered":
            self._ordered += values[1]
        elif actor in self._last_response and kind == "responded":
            self.responses[values[1]] += 1
            if values[1] != callers.UNAVAILABLE:
                self._last_response[actor] = values[0]
        else:
            self._events.append((actor, event))

    def dismiss(self, number: int = signal.SIGKILL) -> None:
        """Signal every worker and wait until it ends."""
        leaving = [actor for actor in self.actors if actor.task == worker.work.__name__ and not actor.is_over]
        for actor in leaving:
            actor.signal(number)
        self.wait(lambda: all(actor.is_over for actor in leaving), "workers did not end")

    def breach(self, what: str) -> None:
        self.breaches.append(what)

    def has_more_to_try(self, count: int) -> bool:
        return self.tried < count and not self.is_hopeless

    def strikes(self, count: int, limit: float | None = None) -> Iterator[None]:
        """Let workers and callers work while a fault is tried, this often, and then drain the queue.

        The queue may stall for `limit` seconds.
        """
        self.watch(limit)
        self.start_workers()
        while self.has_more_to_try(count):
            yield
        self.drain()

    @property
    def is_hopeless(self) -> bool:
        """Whether too much has gone wrong to continue."""
        return len(self.breaches) >= MAX_BREACHES

    # The queue

    def make_batch(self, profiles: int = PROFILES, delay_ms: int = DELAY_MS, checker: str = "http") -> Batch:
        number = next(self._number)
        urls = [self.server.profile_url(n, delay_ms, number) for n in range(profiles)]
        batch = self.manager.create_batch(f"{number}", urls, checker=checker)
        assert isinstance(batch, Batch), batch
        return batch

    def keep_waiting(self) -> None:
        """Keep enough batches in the queue for the callers to pause one."""
        for _ in range(callers.ENOUGH + 1 - Batch.objects.queued().count()):
            self.make_batch(random.randint(PROFILES // 2, PROFILES))

    def refill(self) -> None:
        """Like `keep_waiting`, but some faults make the database unavailable on purpose."""
        try:
            self.keep_waiting()
        except DatabaseError:
            connections.close_all()

    def drain(self) -> None:
        """Queue the batches that callers paused, and let a worker without a plan finish everything."""
        self.stop_callers()
        for batch in Batch.objects.filter(status__in=[Status.PAUSED, Status.ERROR]):
            self.manager.queue_batch(batch.pk)
        last = self.start_worker()
        in_queue = Batch.objects.exclude(position=None)
        self.wait(lambda: not in_queue.exists(), "the queue was not drained", seconds=2 * PATIENCE)
        last.signal(signal.SIGTERM)
        self.wait(lambda: last.is_over, "a worker did not stop")
        self.watch(None)

    def settle(self) -> None:
        """Check the final state."""
        if self._is_settled:
            return
        self._is_settled = True
        self._stop_watcher()
        self.breaches += audit.breaches()
        self.breaches += [f"doctor: {finding.name} {finding.message}" for finding in diagnose()]
        self.breaches += [*self._find_unfinished(), *self._find_unvisited(), *self._find_bad_orders()]
        self.breaches += self._find_impolite()

    def _stop_watcher(self) -> None:
        self._get_watcher().send("stop")
        if event := self.wait_for_event(self._get_watcher(), "watched"):
            _, self.snapshots, self.longest_stall = event
        if not self.snapshots:
            self.breach("the watcher saw nothing")

    def _find_unfinished(self) -> Iterator[str]:
        statuses = Counter(Batch.objects.values_list("status", flat=True))
        if set(statuses) - {Status.DONE}:
            yield f"not all batches are done: {dict(statuses)}"
        profiles = sum(Batch.objects.values_list("total_profiles", flat=True))
        completed = sum(Batch.objects.values_list("completed_profiles", flat=True))
        if profiles != completed:
            yield f"profiles: {profiles}, results: {completed}"

    def _find_unvisited(self) -> Iterator[str]:
        hits = self.server.get(server.HITS)
        for url, results in audit.results_by_url().items():
            _, _, path = url.partition(f":{self.server.port}")
            if results > hits.get(path, 0) and path:
                yield f"{url}: results {results}, requests {hits.get(path, 0)}"

    def _find_impolite(self) -> Iterator[str]:
        """Find hosts with too many requests from all processes, also by redirects."""
        for host, most in self.server.get(server.MOST).items():
            if most > self.at_once:
                yield f"{host}: requests at once {most}, allowed {self.at_once}"

    def _find_bad_orders(self) -> Iterator[str]:
        """A confirmed order is one batch, even if it was sent twice."""
        rows = BatchProfile.objects.filter(profile__url__contains="/order-")
        created = Counter(rows.values_list("profile__url", flat=True))
        if lost := set(self._ordered) - set(created):
            yield f"ordered profiles that are not in any batch: {len(lost)}, such as {min(lost)}"
        if twice := [url for url, times in created.items() if times > 1]:
            yield f"profiles ordered once that are in several batches: {len(twice)}, such as {min(twice)}"


def empty_tables(*, close: bool = True) -> None:
    """Restore the state after the migrations, without their cost. In one transaction: the watcher may be running."""
    with transaction.atomic(), connection.cursor() as cursor:
        for table in (audit.CHANGES, *(model._meta.db_table for model in TABLES)):
            cursor.execute(f"DELETE FROM {table}")
    if close:
        connections.close_all()

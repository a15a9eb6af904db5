"""Where one fault is tried: a queue with work in it, the processes that act on it, and the watcher beside them."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from django.db import DatabaseError, connection, connections

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Profile, Queue, StoryResult
from batches.reports.doctor import diagnose

from . import audit, callers, child, databases, server, site, watcher, worker
from .child import Setup, Task
from .databases import Database
from .environment import LEASE_SECONDS, POLL_SECONDS, TOLERANCE

#: Processes are forked from one that has Django and no connection.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([child.__name__])

#: The longest that anything is waited for. What takes longer hangs.
PATIENCE = 60.0

#: How long the queue may stand still where workers die and freeze.
TAKEOVER_SECONDS = LEASE_SECONDS + POLL_SECONDS + TOLERANCE

MAX_BREACHES = 5
MAX_LETTERS = 200

PROFILES, DELAY_MS = 24, 15

Status = Batch.Status
Event = tuple[Any, ...]


class Actor:
    """A process of the harness. `heard` gives what it has told since, and at its end ("ended", when, exit code)."""

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

    def let_go(self) -> None:
        """Wake a process that has frozen itself: not before it has, or it would sleep for ever."""
        state = Path(f"/proc/{self.process.pid}/stat")
        while state.exists() and b") T " not in state.read_bytes():
            time.sleep(0.001)
        self.signal(signal.SIGCONT)

    def send(self, message: Any) -> None:
        with suppress(BrokenPipeError):
            self.link.send(message)

    def heard(self) -> Iterator[Event]:
        ended = wait_for([self.process.sentinel], 0)
        with suppress(EOFError, ConnectionResetError):
            while self.link.poll():
                yield self.link.recv()
        if ended and not self.is_over:
            self.is_over = True
            self.process.join()
            yield "ended", time.monotonic(), self.process.exitcode

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.join()
        self.is_over = True


@dataclass
class House:
    """What the stages of one database share."""

    database: Database
    port: int
    log: Path
    credentials: callers.Credentials


@dataclass
class Stage:
    """Entered with an empty queue; at its end whatever still runs is killed."""

    house: House
    mutant: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    tried: int = 0
    breaches: list[str] = field(default_factory=list)
    #: Seconds from each fault until the queue went on.
    recoveries: list[float] = field(default_factory=list)
    looks: int = 0
    longest_stall: float = 0.0
    #: How often the callers were told what.
    answers: Counter[str] = field(default_factory=Counter)
    not_tried: str = ""

    def __post_init__(self) -> None:
        #: Every process that was started, the watcher's too.
        self.actors: list[Actor] = []
        self._letters: list[tuple[Actor, Event]] = []
        self._is_settled = False
        self._site: Actor | None = None
        #: When each of those who use the doors was last given an answer, in the time of `time.monotonic`.
        self._answered: dict[Actor, float] = {}
        #: The addresses of the profiles in the batches that a program has ordered.
        self._ordered: list[str] = []
        self._number = count(1)
        self._watcher: Actor | None = None
        self.manager = BatchManager(actor="harness")

    def __enter__(self) -> Self:
        databases.use(self.house.database.patient_url)
        empty_tables()
        server.ask(self.house.port, server.FORGET)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for actor in self.actors:
            actor.kill()

    # Processes

    def start(self, task: Task, *arguments: Any) -> Actor:
        setup = Setup(
            self.url or self.house.database.url,
            self.house.log,
            "" if task is watcher.watch else self.mutant,
            self.config,
        )
        actor = Actor(task, setup, *arguments)
        self.actors.append(actor)
        return actor

    def start_worker(self, plan: worker.Plan | None = None) -> Actor:
        return self.start(worker.work, plan)

    def start_callers(self) -> None:
        """The web application, and somebody at each door who goes on steering the queue meanwhile."""
        if self._site is not None:
            return
        self._site = self.start(site.serve)
        if told := self.wait_to_hear(self._site, "listening"):
            address, credentials = f"http://127.0.0.1:{told[2]}", self.house.credentials
            base = f"http://127.0.0.1:{self.house.port}/{DELAY_MS}"
            at_the_doors = [
                self.start(callers.use_admin, address, credentials),
                self.start(callers.use_api, address, credentials, base),
                self.start(callers.use_terminal),
            ]
            self._answered = dict.fromkeys(at_the_doors, 0.0)

    def stop_callers(self) -> None:
        """Once each of them has had an answer again."""
        now = time.monotonic()
        self.wait(lambda: all(at > now for at in self._answered.values()), "a door does not answer again")
        for actor in self._answered:
            actor.send("stop")
        self.wait(lambda: all(actor.is_over for actor in self._answered), "callers do not end")
        if self._site is not None:
            self._site.kill()
        self._site, self._answered = None, {}

    def watch(self, limit: float | None) -> None:
        """The queue may stand still for so long from now on; None: as long as it likes."""
        self._the_watcher().send(limit)

    def blink(self) -> None:
        """The watcher looks away, with its connection closed, until it is told again to watch."""
        self._the_watcher().send(watcher.BLINK)
        self.wait_to_hear(self._the_watcher(), watcher.BLINK)

    def _the_watcher(self) -> Actor:
        self._watcher = self._watcher or self.start(watcher.watch)
        return self._watcher

    def listen(self, seconds: float = 1.0) -> list[tuple[Actor, Event]]:
        """What has been told, once something has, or after so many seconds."""
        self._collect(seconds)
        heard, self._letters = self._letters, []
        return heard

    def wait(self, condition: Callable[[], Any], otherwise: str, seconds: float = PATIENCE) -> None:
        """Until the condition holds. A breach if that takes too long."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                self.breach(otherwise)
                return
            self._collect(0.02)

    def wait_to_hear(self, actor: Actor, kind: str, seconds: float = PATIENCE) -> Event | None:
        """The actor's next event of this kind; others' stay. A breach if it does not come, or if the actor ends."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for letter in self._letters:
                if letter[0] is actor and letter[1][0] in {kind, "ended"}:
                    self._letters.remove(letter)
                    if letter[1][0] == kind:
                        return letter[1]
                    self.breach(f"{actor.task} ended with {letter[1][2]} instead of telling “{kind}”")
                    return None
            self._collect(0.05)
        self.breach(f"{actor.task} did not tell “{kind}” within {seconds:.1f} s")
        return None

    def wait_for(
        self, *kinds: str, since: float | None = None, seconds: float = PATIENCE, refill: bool = True
    ) -> tuple[Actor, float] | None:
        """Who tells one of these first from now on (or since an instant), and when. A breach if nobody does.

        `refill`: there is always something to work on meanwhile.
        """
        now = time.monotonic()
        while time.monotonic() < now + seconds:
            for actor, (kind, at, *_) in self._letters:
                if kind in kinds and at >= (now if since is None else since):
                    return actor, at
            if refill:
                self.refill()
            self._collect(0.05)
        self.breach(f"nobody told {' or '.join(kinds)} within {seconds:.1f} s")
        return None

    def _collect(self, seconds: float) -> None:
        """Only the latest letters are kept, so that an old one is not taken for a new one."""
        live = [actor for actor in self.actors if not actor.is_over]
        wait_for([item for actor in live for item in (actor.link, actor.process.sentinel)], seconds)
        for actor in live:
            for event in actor.heard():
                self._note(actor, event)
        del self._letters[:-MAX_LETTERS]

    def _note(self, actor: Actor, event: Event) -> None:
        kind, *values = event
        if kind == "breach":
            self.breach(values[0])
        elif kind == "ordered":
            self._ordered += values[1]
        elif actor in self._answered and kind == "answered":
            self.answers[values[1]] += 1
            if values[1] != callers.UNAVAILABLE:
                self._answered[actor] = values[0]
        else:
            self._letters.append((actor, event))

    def dismiss(self, number: int = signal.SIGKILL) -> None:
        """Send every worker home."""
        leaving = [actor for actor in self.actors if actor.task == worker.work.__name__ and not actor.is_over]
        for actor in leaving:
            actor.signal(number)
        self.wait(lambda: all(actor.is_over for actor in leaving), "workers do not end")

    def breach(self, what: str) -> None:
        self.breaches.append(what)

    @property
    def is_hopeless(self) -> bool:
        """Enough has gone wrong: trying on would only take time."""
        return len(self.breaches) >= MAX_BREACHES

    # The queue

    def make_batch(self, profiles: int = PROFILES, delay_ms: int = DELAY_MS, checker: str = "http") -> Batch:
        number = next(self._number)
        base = f"http://127.0.0.1:{self.house.port}/{delay_ms}/{number}"
        batch = self.manager.create_batch(f"{number}", [f"{base}/{n}" for n in range(profiles)], checker=checker)
        assert isinstance(batch, Batch), batch
        return batch

    def keep_waiting(self, batches: int = callers.ENOUGH + 1) -> None:
        """Have at least so many batches in the queue."""
        for _ in range(batches - Batch.objects.queued().count()):
            self.make_batch(random.randint(PROFILES // 2, PROFILES))

    def refill(self) -> None:
        """As far as the database can be written just now: that it cannot is some faults' point."""
        try:
            self.keep_waiting()
        except DatabaseError:
            connections.close_all()

    def drain(self) -> None:
        """A worker without a plan brings everything to its end: what somebody paused is queued again."""
        self.stop_callers()
        for batch in Batch.objects.filter(status__in=[Status.PAUSED, Status.ERROR]):
            self.manager.queue_batch(batch.pk)
        last = self.start_worker()
        self.wait(self.is_drained, "not everything is drained", seconds=2 * PATIENCE)
        last.signal(signal.SIGTERM)
        self.wait(lambda: last.is_over, "a worker does not stop")
        self.watch(None)

    def is_drained(self) -> bool:
        return not Batch.objects.exclude(position=None).exists()

    def settle(self) -> None:
        """Count everything at the end, once."""
        if self._is_settled:
            return
        self._is_settled = True
        self._stop_watcher()
        self.breaches += audit.breaches()
        self.breaches += [f"doctor: {finding.batch} {finding.message}" for finding in diagnose()]
        self.breaches += [*self._undone(), *self._unvisited(), *self._not_made_once()]

    def _stop_watcher(self) -> None:
        self._the_watcher().send("stop")
        told = self.wait_to_hear(self._the_watcher(), "watched")
        if told:
            _, self.looks, self.longest_stall = told
        if not self.looks:
            self.breach("the watcher saw nothing")

    def _undone(self) -> Iterator[str]:
        statuses = watcher.statuses()
        if set(statuses) - {Status.DONE}:
            yield f"not all batches are done: {dict(statuses)}"
        profiles = sum(Batch.objects.values_list("total_profiles", flat=True))
        completed = sum(Batch.objects.values_list("completed_profiles", flat=True))
        if profiles != completed:
            yield f"{completed} results of {profiles} profiles"

    def _unvisited(self) -> Iterator[str]:
        hits = server.ask(self.house.port, server.HITS)
        base = f"http://127.0.0.1:{self.house.port}"
        for url, results in audit.results_by_url().items():
            if results > hits.get(url.removeprefix(base), 0) and url.startswith(base):
                yield f"{url} has {results} results, but was asked {hits.get(url.removeprefix(base), 0)} times"

    def _not_made_once(self) -> Iterator[str]:
        """An order that was confirmed is a batch; one that was sent again is not two."""
        rows = Batch.profiles.rel.related_model.objects.filter(profile__url__contains="/order-")
        made = Counter(rows.values_list("profile__url", flat=True))
        if lost := set(self._ordered) - set(made):
            yield f"{len(lost)} profiles were ordered and are in no batch, such as {min(lost)}"
        if twice := [url for url, times in made.items() if times > 1]:
            yield f"{len(twice)} profiles were ordered once and are in several batches, such as {min(twice)}"


def empty_tables(*, close: bool = True) -> None:
    """As it was after the migrations, without their cost."""
    with connection.cursor() as cursor:
        for table in (audit.CHANGES, *(model._meta.db_table for model in (BatchLog, StoryResult, *_ROWS))):
            cursor.execute(f"DELETE FROM {table}")
    if close:
        connections.close_all()


_ROWS = (Batch.profiles.rel.related_model, Batch, Profile, Queue)

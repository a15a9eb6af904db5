"""Random steps of several workers: no domain gets more requests at once than allowed, and each check gets its slot."""

import asyncio
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count
from random import Random

import pytest
from django.db import connections

from batches.batch_manager import BatchManager
from batches.checking.checkers import slots as slots_module
from batches.checking.checkers.slots import LOAN_SECONDS, Slots
from batches.checking.sharing import Sharing
from batches.queue.partitions import partition_of_domain
from batches.queue.refusals import Refusal
from batches.tests.conftest import empty_tables
from batches.tests.support.factories import age_leases
from batches.tests.support.time import asynchronous

pytestmark = pytest.mark.django_db(transaction=True)

EXAMPLES = int(os.environ.get("STATE_MACHINE_EXAMPLES", "25")) // 5
#: The last one has no profile in the batch: only redirects lead there.
DOMAINS = {"a.example": 5, "b.example": 1, "c.example": 1, "d.example": 4}
ACTIONS = {"request": 6, "finish": 5, "exchange": 6, "settle": 4, "cancel": 1, "lease": 1, "give": 1, "later": 1}
RARE_ACTIONS = {"die": 0.3, "pause": 0.3, "end": 0.6}
STEPS = 150


@pytest.fixture
def database():
    with ThreadPoolExecutor(1) as thread:
        yield thread
        thread.submit(connections.close_all).result()


class RunOver(Exception):
    pass


class Caller:
    """Calls the manager in the only thread with a connection. The loop waits, so that each seed repeats its steps."""

    def __init__(self, manager, database):
        self._manager, self._database = manager, database

    def __getattr__(self, name):
        return partial(self.call, getattr(self._manager, name))

    def call(self, call, *arguments):
        return self._database.submit(call, *arguments).result()


class Fleet:
    """Three workers on one batch. A worker that dies is replaced by one that takes over."""

    def __init__(self, per_domain, database):
        self.per_domain = per_domain
        self.manager = Caller(BatchManager(), database)
        self.under_way = Counter()
        self.breaches = []
        self.batch = self.manager.create_batch("it", [f"https://{domain}/" for domain in list(DOMAINS)[:-1]])
        assert self.manager.start_batch(self.batch.pk)
        self.names = count()
        self.workers = [self.claim(3 - number) for number in range(3)]
        self.ended = []

    def claim(self, processes=1):
        name = f"worker {next(self.names)}"
        run = self.manager.claim_run(name, processes)
        return Member(self, name, run) if run else None

    @property
    def alive(self):
        return [worker for worker in self.workers if worker and worker.is_alive]

    async def replace(self, number):
        """The death of a worker, and the takeover after its lease has expired."""
        await self.settle()  # a call that the database has got is complete
        dead = self.workers[number]
        if dead and dead.is_alive:
            dead.die()
            assert self.manager.call(age_leases, self.batch)
            for worker in self.alive:
                assert self.manager.renew_lease(self.batch.pk, worker.run.run_token)
        self.workers[number] = self.claim()

    async def pause(self):
        """The batch continues at once, while the requests of the ended run are still under way."""
        await self.settle()
        assert self.manager.pause_batch(self.batch.pk)
        assert self.manager.start_batch(self.batch.pk)
        self.ended += self.alive
        self.workers = [self.claim(3 - number) for number in range(3)]

    def end_checks(self):
        """The workers of ended runs have noticed it."""
        for worker in self.ended:
            worker.die()
            self.manager.end_worker(worker.name)
        self.ended = []
        self.workers = [worker or self.claim() for worker in self.workers]

    async def settle(self):
        for worker in [*self.alive, *self.ended]:
            while worker.calls:
                with suppress(RunOver):
                    await worker.calls.pop()

    def read_everything(self):
        """As if the only profile of each partition was read and recorded; the second worker never gets that far."""
        for number, worker in enumerate(self.workers):
            while worker and number != 1 and (scan := worker.sharing.partitions.scan):
                worker.sharing.partitions.add(scan, [], 1)

    async def finish_all(self, clock):
        """Each check gets its slot, however the workers stand."""
        self.end_checks()
        for _ in range(100):
            await self.settle()
            for worker in self.alive:
                for request in worker.requests:
                    request.set()
                worker.start(worker.sharing.exchange)
            clock[0] += LOAN_SECONDS / 2
            if all(check.done() for worker in self.alive for check in worker.checks):
                break
        await self.settle()
        assert all(check.done() for worker in self.alive for check in worker.checks)
        assert self.breaches == []
        assert not +self.under_way


class Member:
    def __init__(self, fleet, name, run):
        self.fleet, self.name, self.run = fleet, name, run
        self.slots = Slots(fleet.per_domain)
        self.sharing = Sharing(run, self.slots, partial(self.call, fleet.manager.share_run), 3, lambda: None)
        self.checks, self.calls, self.requests = [], [], []
        self.is_alive = True
        self.start(self.sharing.begin)

    async def call(self, method, *arguments):
        await asyncio.sleep(0)  # the database's thread has other calls to make
        answer = method(self.run.batch.pk, self.run.run_token, *arguments)
        await asyncio.sleep(0)
        if isinstance(answer, Refusal):
            raise RunOver(str(answer))
        return answer

    def start(self, call):
        self.calls.append(asyncio.ensure_future(call()))

    def check(self, domain):
        self.checks.append(asyncio.ensure_future(self.request(domain)))

    async def request(self, domain):
        if not self.slots.take(domain):
            await self.slots.wait(domain)  # without an await after it: the slot counts from now on
        self.fleet.under_way[domain] += 1
        answered = asyncio.Event()
        self.requests.append(answered)
        try:
            if self.fleet.under_way[domain] > self.fleet.per_domain:
                self.fleet.breaches.append(domain)
            await answered.wait()
        finally:
            self.fleet.under_way[domain] -= 1
            self.requests.remove(answered)
            self.slots.release(domain)

    def exchange(self):
        self.start(self.sharing.exchange)

    def lease(self):
        self.start(self.sharing.lease_more)

    def give(self):
        self.sharing.partitions.give_half_away()
        self.start(self.sharing.release)

    def die(self):
        self.is_alive = False
        for task in (*self.checks, *self.calls):
            task.cancel()


async def play(per_domain, database, random, clock):
    fleet = Fleet(per_domain, database)
    actions = ACTIONS | RARE_ACTIONS
    for action in random.choices(list(actions), list(actions.values()), k=STEPS):
        number = random.randrange(3)
        worker = fleet.workers[number] or (fleet.ended or [None])[0]
        match action:
            case "die":
                await fleet.replace(number)
            case "pause":
                await fleet.pause()
            case "end":
                fleet.end_checks()
            case "later":
                clock[0] += LOAN_SECONDS / 2
            case "settle":
                await fleet.settle()
            case "request" if worker:
                worker.check(*random.choices(list(DOMAINS), list(DOMAINS.values())))
            case "finish" if worker and worker.requests:
                random.choice(worker.requests).set()
            case "cancel" if worker and worker.checks:
                random.choice(worker.checks).cancel()
            case "exchange" | "lease" | "give" if worker:
                getattr(worker, action)()
        await asyncio.sleep(0)
        fleet.read_everything()
        assert fleet.breaches == []
    await fleet.finish_all(clock)


def test_no_domain_gets_more_requests_than_allowed_and_each_check_gets_its_slot(database, configure, monkeypatch):
    configure(max_takeovers=1000)
    clock = [0.0]
    monkeypatch.setattr(slots_module, "monotonic", lambda: clock[0])
    for seed in range(EXAMPLES):
        empty_tables()
        try:
            asyncio.run(play(1 + seed % 2, database, Random(seed), clock))
        except BaseException as error:
            error.add_note(f"Seed {seed}")
            raise


@asynchronous
async def test_partitions_of_a_running_batch_are_ours_when_we_know_what_is_lent(database):
    _, second, _ = Fleet(2, database).workers
    slots, partitions = second.slots, second.sharing.partitions
    [domain] = [name for name in DOMAINS if partition_of_domain(name) == second.run.partitions[0]]
    assert not slots.take(domain)
    await second.calls.pop()
    assert partitions.has(second.run.partitions[0])
    assert slots.take(domain)


@asynchronous
async def test_one_call_at_a_time_changes_what_is_shared(database):
    """The second one says what it wants after the answer to the first."""
    first, *_ = Fleet(2, database).workers
    sharing, under_way, most = first.sharing, [], []
    share = sharing.share

    async def watch(*arguments):
        under_way.append(arguments)
        most.append(len(under_way))
        answer = await share(*arguments)
        under_way.pop()
        return answer

    sharing.share = watch
    await asyncio.gather(sharing.exchange(), sharing.lease_more(), sharing.release(), sharing.exchange())
    assert most == [1] * 4

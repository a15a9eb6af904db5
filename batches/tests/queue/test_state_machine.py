"""Random sequences of calls, including late ones of workers, compared with a model of the queue in plain Python."""

import os
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from operator import attrgetter

import pytest
from django.db import transaction
from django.db.models import F
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from batches.batch_manager import BatchManager
from batches.conf import Config
from batches.models import Action, Batch, BatchLog, BatchProfile, Lease, Profile, Queue
from batches.queue.refusals import Code
from batches.queue.transitions import RULES
from batches.tests.support.factories import age_leases, failed, ok, urls

from .test_transitions import CALLS, DONE, ERROR, OUTCOMES, PAUSED, QUEUED, RUN_CALLS, RUNNING

#: More examples find more: `STATE_MACHINE_EXAMPLES=1000 pytest batches/tests/queue/test_state_machine.py`.
EXAMPLES = int(os.environ.get("STATE_MACHINE_EXAMPLES", "25"))
STEPS = 40
MAX_BATCHES = 10
MAX_TAKEOVERS = Config().max_takeovers
EXPIRED = timedelta(seconds=10 * Config().lease_seconds)

POOL = urls(5)
PRIORITIES = st.integers(-1, 1)
OUTCOMES_OF_CHECKS = st.dictionaries(st.sampled_from(POOL), st.sampled_from(["failed", "story", "ok"]))
PROGRESS = [(2, 1, 1), (3, 2, 1), (1, 0, 1), (0, 0, 0), (2, 2, 1), (1, 2, -1)]

#: Calls that lead to the status in RULES. Several in a row: at random, they would rarely follow each other.
TRANSITIONS = ["queue_batch", "start_batch", "pause_batch", "complete_batch", "handle_error", "retry_failed"]


@dataclass(eq=False)
class Expected:
    """The expected state of a batch, in the names of its columns."""

    id: uuid.UUID
    priority: int
    status: str = PAUSED
    #: Status by address. Empty for a batch without rows.
    rows: dict[str, str] = field(default_factory=dict)
    total_profiles: int = 0
    completed_profiles: int = 0
    successful_checks: int = 0
    failed_checks: int = 0
    stories_found: int = 0
    run_token: uuid.UUID | None = None
    is_expired: bool = False
    #: Its leases have counted results that are not added to its row yet.
    has_progressed: bool = False
    takeovers: int = 0

    def fold(self) -> None:
        self.takeovers, self.has_progressed = 0 if self.has_progressed else self.takeovers, False

    def count(self) -> None:
        if self.rows:
            statuses = list(self.rows.values())
            self.successful_checks, self.failed_checks = statuses.count("ok"), statuses.count("failed")
            self.completed_profiles = self.successful_checks + self.failed_checks

    def make_pending(self, *statuses: str) -> None:
        self.rows = {url: "pending" if status in statuses else status for url, status in self.rows.items()}
        self.count()


HIDDEN = {"id", "rows", "run_token", "is_expired", "has_progressed"}
STORED = [name for name in Expected.__dataclass_fields__ if name not in HIDDEN]
read_stored = attrgetter(*STORED)


@dataclass(frozen=True)
class Run:
    """A run as its worker knows it, possibly with an old token."""

    batch: Expected
    token: uuid.UUID

    @property
    def objection(self) -> Code | None:
        return None if self.batch.run_token == self.token else Code.FENCED


class QueueMachine(RuleBasedStateMachine):
    batches = Bundle("batches")
    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.example = transaction.atomic()
        self.example.__enter__()
        self.manager = BatchManager("machine")
        self.all: list[Expected] = []
        self.waiting: list[Expected] = []
        self.held = False
        #: The batch that the hold stopped, while nobody has changed it since.
        self.stopped: Expected | None = None
        self.known_stories: set[tuple[str, str]] = set()
        #: Profiles that were read. The stories of a first read are not new.
        self.read: set[str] = set()
        self.lines = 0
        self.seen: tuple[object, int] = (None, 0)

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.example.__exit__(None, None, None)

    # The model

    @property
    def running(self) -> Expected | None:
        return next((batch for batch in self.all if batch.status == RUNNING), None)

    def place(self, batch: Expected) -> None:
        """At the end of its band."""
        ahead = [index for index, other in enumerate(self.waiting) if other.priority >= batch.priority]
        self.waiting.insert(ahead[-1] + 1 if ahead else 0, batch)

    def enter(self, batch: Expected, status: str) -> None:
        before = batch.status, list(self.waiting)
        if batch.status == QUEUED:
            self.waiting.remove(batch)
        batch.fold()
        batch.status, batch.run_token, batch.is_expired = status, None, False
        if status == QUEUED:
            self.place(batch)
        if status in {QUEUED, RUNNING}:
            batch.takeovers = 0
        self.decide(batch, (batch.status, self.waiting) != before)

    def interrupt(self, batch: Expected) -> None:
        self.enter(batch, QUEUED)
        self.waiting.remove(batch)
        self.waiting.insert(0, batch)

    def decide(self, batch: Expected, has_changed: bool) -> None:
        if batch is self.stopped and has_changed:
            self.stopped = None

    def add(self, batch: Expected, queue: bool = True) -> Expected:
        self.all.append(batch)
        self.lines += 1
        if queue:
            batch.status = QUEUED
            self.place(batch)
        return batch

    def is_refused(self, call: str, batch: Expected, answer: object, code: Code | None = None) -> bool:
        """Whether the call must be refused: by the matrix, or with `code`. Asserts that it was refused or not."""
        if batch not in self.all and call in CALLS:
            code = Code.NOT_FOUND
        elif isinstance(OUTCOMES.get((call, batch.status)), Code):
            code = OUTCOMES[call, batch.status]
        assert bool(answer) == (code is None), (call, answer, code)
        assert code is None or answer.code == code
        return code is not None

    # Creating and ordering batches

    @initialize(target=batches, priorities=st.tuples(PRIORITIES, PRIORITIES, PRIORITIES, PRIORITIES))
    def four_are_queued(self, priorities):
        plain, *others = priorities
        with_rows = [self.create(POOL[: index + 2], priority, True) for index, priority in enumerate(others)]
        return multiple(*with_rows, self.insert(3, plain))

    def create(self, addresses, priority, queue):
        batch = self.manager.create_batch("created", addresses, priority, queue=queue)
        return self.add(
            Expected(batch.pk, priority, rows=dict.fromkeys(addresses, "pending"), total_profiles=len(addresses)), queue
        )

    @precondition(lambda self: len(self.all) < MAX_BATCHES)
    @rule(
        target=batches, addresses=st.lists(st.sampled_from(POOL), unique=True), priority=PRIORITIES, queue=st.booleans()
    )
    def create_batch(self, addresses, priority, queue):
        return self.create(addresses, priority, queue)

    @precondition(lambda self: len(self.all) < MAX_BATCHES)
    @rule(target=batches, total=st.integers(0, 3), priority=PRIORITIES)
    def insert_plainly(self, total, priority):
        return self.insert(total, priority)

    def insert(self, total, priority):
        batch = Batch.objects.create(name="plain", total_profiles=total, priority=priority)
        return self.add(Expected(batch.pk, priority, total_profiles=total))

    @precondition(lambda self: len(self.all) < MAX_BATCHES)
    @rule(target=batches, batch=batches)
    def repeat_batch(self, batch):
        answer = self.manager.repeat_batch(batch.id)
        if self.is_refused("repeat_batch", batch, answer):
            return multiple()
        rows = dict.fromkeys(batch.rows, "pending")
        return self.add(Expected(answer.pk, batch.priority, rows=rows, total_profiles=batch.total_profiles))

    @rule(batch=batches, position=st.integers(-1, 7), version=st.sampled_from([None, 0, 1]))
    def move_batch(self, batch, position, version):
        """Decided from the present version (0), another one (1), or none."""
        expected = None if version is None else Queue.objects.get().version - version
        answer = self.manager.move_batch(batch.id, position, expected_version=expected)
        if not self.is_refused("move_batch", batch, answer, Code.STALE_VERSION if version else None):
            before = list(self.waiting)
            self.waiting.remove(batch)
            self.waiting.insert(max(1, min(position, len(before))) - 1, batch)
            self.lines += self.waiting != before
            self.decide(batch, self.waiting != before)

    @rule(batch=batches, priority=PRIORITIES)
    def set_priority(self, batch, priority):
        answer = self.manager.set_priority(batch.id, priority)
        if not self.is_refused("set_priority", batch, answer) and priority != batch.priority:
            batch.priority = priority
            self.lines += 1
            self.decide(batch, True)
            if batch.status == QUEUED:
                self.waiting.remove(batch)
                self.place(batch)

    @precondition(lambda self: self.waiting)
    @rule(factor=st.integers(1, 2))
    def close_gaps(self, factor):
        for position in range(len(self.waiting), 0, -1):
            Batch.objects.filter(position=position).update(position=F("position") * factor)
        assert self.manager.reorder_queue() is True
        self.lines += factor > 1

    @rule(hold=st.sampled_from([False, False, True]), stop=st.booleans())
    def hold_or_release_queue(self, hold, stop):
        assert (self.manager.hold_queue(stop_running=stop) if hold else self.manager.release_queue()) is True
        if hold and stop and self.running:
            stopped = self.running
            self.interrupt(stopped)
            self.stopped = stopped
            self.lines += 2
        else:
            self.lines += hold != self.held
        if not hold and self.stopped:
            self.enter(self.stopped, RUNNING)
            self.lines += 1
        self.held = hold

    # Starting and ending

    @rule(
        batch=batches,
        calls=st.lists(st.sampled_from(TRANSITIONS), min_size=1, max_size=5),
        choose_running=st.booleans(),
    )
    def change_status(self, batch, calls, choose_running=False):
        batch = self.running if choose_running and self.running else batch
        for call in calls:
            answer = CALLS[call](self.manager, batch.id)
            if not self.is_refused(call, batch, answer, self.objection(call, batch)):
                self.expect_changed(call, batch)

    def objection(self, call, batch):
        if call == "start_batch":
            return Code.ANOTHER_RUNNING if self.running else Code.QUEUE_HELD if self.held else None
        return Code.NOTHING_TO_RETRY if call == "retry_failed" and not batch.failed_checks else None

    def expect_changed(self, call, batch):
        before = batch.status, list(self.waiting)
        if call == "queue_batch" and batch.status == DONE:
            batch.make_pending("ok", "failed")
            batch.completed_profiles = batch.successful_checks = batch.failed_checks = batch.stories_found = 0
        if call == "retry_failed":
            batch.completed_profiles, batch.failed_checks = batch.completed_profiles - batch.failed_checks, 0
            batch.make_pending("failed")
        self.enter(batch, RULES[Action(call)].goes_to)
        self.lines += (batch.status, self.waiting) != before

    @precondition(lambda self: self.running)
    @rule(batch=batches)
    def interrupt_running(self, batch):
        interrupted = self.running
        answer = self.manager.start_batch(batch.id, preempt=True)
        if not self.is_refused("start_batch", batch, answer, Code.QUEUE_HELD if self.held else None):
            self.interrupt(interrupted)
            self.enter(batch, RUNNING)
            self.lines += 2

    @rule()
    def promote_next_batch(self):
        head = self.waiting[0] if self.waiting and not self.running and not self.held else None
        promoted = self.manager.promote_next_batch()
        assert (promoted and promoted.pk) == (head and head.id)
        if head:
            self.enter(head, RUNNING)
            self.lines += 1

    @rule(batch=batches, progress=st.sampled_from(PROGRESS), pause_first=st.booleans())
    def update_progress(self, batch, progress, pause_first):
        if pause_first:
            self.change_status(batch, ["pause_batch"])
        answer = self.manager.update_progress(batch.id, *progress)
        completed, successful, failures = progress
        is_bad = failures < 0 or successful + failures > completed or completed > batch.total_profiles or batch.rows
        if not self.is_refused("update_progress", batch, answer, Code.BAD_PROGRESS if is_bad else None):
            batch.completed_profiles, batch.successful_checks, batch.failed_checks = progress
            if completed == batch.total_profiles:
                self.enter(batch, DONE)
                self.lines += 1

    @precondition(lambda self: len(self.all) > 3)
    @rule(batch=batches, purge=st.booleans())
    def delete_batch(self, batch, purge):
        answer = self.manager.delete_batch(batch.id)
        if self.is_refused("delete_batch", batch, answer):
            return
        self.enter(batch, PAUSED)
        self.all.remove(batch)
        self.lines += 1
        if purge:
            self.lines -= BatchLog.objects.filter(batch__deleted_at__isnull=False).count()
            self.manager.purge_deleted()
            assert Batch.everything.count() == len(self.all)

    # Workers

    @rule(target=runs)
    def claim_run(self):
        answer = self.manager.claim_run("worker")
        batch = self.claimable()
        assert (answer and answer.batch.pk) == (batch and batch.id)
        if not batch:
            return multiple()
        batch.run_token, batch.is_expired = answer.run_token, False
        return Run(batch, answer.run_token)

    def claimable(self):
        batch = self.running
        if batch and batch.run_token and not batch.is_expired:
            return None
        if batch:
            self.lines += 1
            batch.fold()
            if not batch.run_token or batch.takeovers < MAX_TAKEOVERS:
                batch.takeovers += batch.run_token is not None
                return batch
            self.enter(batch, ERROR)
        if not self.waiting or self.held:
            return None
        head = self.waiting[0]
        self.enter(head, RUNNING)
        self.lines += 1
        return head

    @precondition(lambda self: self.running and self.running.run_token)
    @rule(target=runs, is_clock_set_back=st.booleans(), outcomes=OUTCOMES_OF_CHECKS)
    def a_worker_freezes_and_comes_back(self, is_clock_set_back, outcomes):
        zombie = Run(self.running, self.running.run_token)
        assert age_leases(self.running.id, -EXPIRED if is_clock_set_back else EXPIRED)
        self.running.is_expired = True
        run = self.claim_run()
        self.record_results(zombie, outcomes)
        return run

    @rule(target=runs, outcomes=OUTCOMES_OF_CHECKS, then_finish=st.booleans())
    def a_worker_works(self, outcomes, then_finish):
        """The usual work of a worker: at random, its steps would rarely follow each other."""
        owned = self.running and self.running.run_token
        run = Run(self.running, owned) if owned else self.claim_run()
        if isinstance(run, Run):
            self.record_results(run, outcomes)
            if then_finish:
                self.record_results(run, dict.fromkeys(POOL, "ok"))
                self.report(run, "finish_run")
        return run

    @rule(run=runs, outcomes=OUTCOMES_OF_CHECKS)
    def record_results(self, run, outcomes):
        results = {"ok": ok(), "failed": failed(), "story": ok("a story")}
        ids = dict(Profile.objects.values_list("url", "pk"))
        given = [(ids[url], results[outcome]) for url, outcome in outcomes.items() if url in ids]
        answer = self.manager.record_results(run.batch.id, run.token, given * 2)
        if not self.is_refused("record_results", run.batch, answer, run.objection):
            self.expect_recorded(run.batch, outcomes)

    def expect_recorded(self, batch, outcomes):
        batch.is_expired = False
        for url, outcome in outcomes.items():
            if batch.rows.get(url) == "pending":
                batch.rows[url] = "failed" if outcome == "failed" else "ok"
                batch.has_progressed = True
                if outcome == "story":
                    is_known = (url, "a story") in self.known_stories
                    batch.stories_found += url in self.read and not is_known
                    self.known_stories.add((url, "a story"))
                if outcome != "failed":
                    self.read.add(url)
        batch.count()

    @rule(run=runs, call=st.sampled_from(["renew_lease", "release_run", "finish_run", "handle_error"]))
    def report(self, run, call):
        batch = run.batch
        answer = RUN_CALLS[call](self.manager, Batch(batch.id), run.token)
        is_unfinished = call == "finish_run" and "pending" in batch.rows.values()
        if self.is_refused(call, batch, answer, run.objection or (Code.NOT_FINISHED if is_unfinished else None)):
            return
        batch.is_expired = False
        self.lines += call != "renew_lease"
        if call == "release_run":
            batch.fold()
            batch.run_token = None
        elif call != "renew_lease":
            is_hollow = batch.completed_profiles < batch.total_profiles and not batch.rows
            self.enter(batch, ERROR if call == "handle_error" or is_hollow else DONE)

    # Invariants

    @invariant()
    def the_tables_are_as_expected(self):
        positions = {batch.id: index for index, batch in enumerate(self.waiting, start=1)}
        positions |= {self.running.id: 0} if self.running else {}
        rows: dict[uuid.UUID, dict[str, str]] = {}
        columns = ("batch", "profile__url", "status")
        for batch_id, url, status in BatchProfile.objects.order_by("pk").values_list(*columns):
            rows.setdefault(batch_id, {})[url] = status
        assert {
            it.id: (*read_stored(it), positions.get(it.id), it.status == DONE, it.status == ERROR, it.rows)
            for it in self.all
        } == {
            it.pk: (*read_stored(it), it.position, it.completed_at is not None, bool(it.error), rows.get(it.pk, {}))
            for it in Batch.objects.all()
        }
        owned = {it.id: it.run_token for it in self.all if it.run_token}
        assert dict(Lease.objects.values_list("batch", "run_token")) == owned

    @invariant()
    def the_queue_knows_what_its_hold_stopped(self):
        stopped = Queue.objects.values_list("stopped", flat=True).first()
        assert stopped == (self.stopped and self.stopped.id)

    @invariant()
    def each_change_has_one_log_entry(self):
        assert BatchLog.objects.count() == self.lines

    @invariant()
    def the_version_grows_with_every_change_of_the_order(self):
        order = [(batch.id, batch.status) for batch in self.all], [batch.id for batch in self.waiting], self.held
        version = Queue.objects.values_list("version", flat=True).first() or 0
        before, seen = self.seen
        assert version > seen if order != before and self.all else version >= seen
        self.seen = order, version


# After a failure, hypothesis needs time to find the shortest example.
@pytest.mark.timeout(600)
@pytest.mark.django_db
@pytest.mark.parametrize(
    "examples",
    [
        pytest.param(4, marks=[pytest.mark.slow, pytest.mark.exhaustive_on("sqlite")]),
        pytest.param(
            EXAMPLES, marks=[pytest.mark.slow, pytest.mark.exhaustive_on("postgresql")]
        ),  # takes twice as long
    ],
)
def test_the_queue_agrees_with_its_model_for_any_sequence_of_calls(examples):
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            database=None,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink),
        ),
    )

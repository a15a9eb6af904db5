"""Celery as real processes with a real broker and PostgreSQL: no fault loses or doubles a result."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from batches.batch_manager import BatchManager
from batches.models import Batch, Lease
from batches.tests.support.brokers import BROKERS, open_broker
from batches.tests.support.factories import assert_consistent, make_list, row_statuses, values_of
from batches.tests.support.feedserver import FeedServer, Reply
from batches.tests.support.processes import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.databases("postgresql"),
    pytest.mark.django_db(transaction=True),
]

Status = Batch.Status
HOSTS = [f"127.0.0.{number}" for number in range(1, 25)]
PROFILES = 96
CELERY = (sys.executable, "-m", "celery", "-A", "batchproject")
QUIET = ("--without-gossip", "--without-mingle")
THREE = ("--concurrency=3",)


@pytest.fixture(scope="module")
def broker(request):
    with open_broker(request.param) as broker:
        yield broker


def with_broker(tried=""):
    """Runs a test with this broker, if any, in `make test`, and with each of them in `make test-all`."""
    params = [pytest.param(it, marks=[] if it == tried else pytest.mark.exhaustive) for it in sorted(BROKERS)]
    return pytest.mark.parametrize("broker", params, indirect=True, scope="module")


with_redis, at_length = with_broker("redis"), with_broker()


@pytest.fixture
def farm():
    with FeedServer(HOSTS) as farm:
        farm.otherwise = Reply()
        yield farm


class Team:
    """Celery's workers with three processes each, and the beat."""

    def __init__(self, commands, broker, farm, workers=2, pools=(), **config):
        self.commands, self.broker, self.farm = commands, broker, farm
        # A busy machine must keep up with the orders.
        config = {
            "poll_seconds": 0.5,
            "concurrency": 4,
            "lease_seconds": 3,
            "page_size": 24,
            "processes": 2 * workers,
        } | config
        self.environ = {"BATCHES_EXECUTOR": "celery", "CELERY_BROKER_URL": broker.url}
        self.environ |= {"AUTOSCALE_KEEPALIVE": "5"}  # seconds before Celery ends an idle process; 30 by default
        self.environ |= {f"BATCHES_{key.upper()}": str(value) for key, value in config.items()}
        self.names = [f"celery{number}@localhost" for number in range(workers)]
        pools = pools or [THREE] * workers
        self.roles = [
            ("worker", f"--hostname={name}", *pool, *QUIET) for name, pool in zip(self.names, pools, strict=True)
        ]
        self.workers = [self.start(*role) for role in self.roles]
        self.beat = self.start("beat")
        self.gates = []
        self.has_lost_broker = False

    def start(self, *arguments):
        return self.commands.start_program(*CELERY, *arguments, environ=self.environ)

    def inspect(self, what):
        """The answer of each worker, after all have answered."""
        answers = {}
        self.wait_for(lambda: answers.update(self.ask(what)) or answers.keys() == set(self.names))
        return answers

    def ask(self, what):
        # Without their names, it would wait for answers of others until its timeout.
        destination = f"--destination={','.join(self.names)}"
        command = [*CELERY, "inspect", what, destination, "--timeout=30", "--json"]
        environ = {**self.commands.environ, **self.environ}
        return json.loads(subprocess.run(command, env=environ, stdout=subprocess.PIPE, timeout=180).stdout or "{}")

    def active_tasks(self):
        return {task["name"] for tasks in self.inspect("active").values() for task in tasks}

    def count_processes(self):
        """Those of the first worker."""
        return len(self.inspect("stats")[self.names[0]]["pool"]["processes"])

    def wait_for(self, condition):
        def holds():
            self.revive()
            return condition()

        wait_until(holds, lambda: "".join(process.describe() for process in [*self.workers, self.beat]))

    def revive(self):
        """Restart them like a supervisor: Celery's worker can end when Redis does, by a race in its own code (kombu
        5.7).
        """
        for number, worker in enumerate(self.workers):
            if worker.popen.poll() is not None:
                assert self.has_lost_broker, worker.describe()
                self.workers[number] = self.start(*self.roles[number])

    def begin(self, name, recorded=PROFILES // 4):
        """A batch with recorded profiles, running checks, and profiles that are not begun."""
        self.gates = [self.farm.hold(f"/{name}/{number}") for number in range(PROFILES // 4, PROFILES)]
        urls = [self.farm.url(f"/{name}/{number}", HOSTS[number % len(HOSTS)]) for number in range(PROFILES)]
        batch = BatchManager().create_batch(name, urls, checker="http")
        self.wait_for(lambda: values_of(batch.pk)["completed_profiles"] >= recorded and self.leases(batch))
        return batch

    def finish(self, batch):
        for gate in self.gates:
            gate.open()
        self.wait_for(lambda: values_of(batch.pk)["status"] == Status.DONE)
        assert row_statuses(batch) == ["ok"] * PROFILES
        assert values_of(batch.pk)["successful_checks"] == PROFILES
        assert_consistent()

    def leases(self, batch):
        return list(Lease.objects.filter(batch=batch).values_list("worker", flat=True))


@pytest.fixture
def start_team(commands, broker, farm):
    with suppress(Exception):
        broker.empty()  # the rest of an earlier test
    return lambda **options: Team(commands, broker, farm, **options)


# -- Faults ------------------------------------------------------------------------------------------------------------


def kill_worker(team, batch):
    pid = int(team.leases(batch)[0].rpartition(":")[2])
    os.kill(pid, signal.SIGKILL)


def restart_broker(team, batch):
    team.has_lost_broker = True
    team.broker.restart()


@with_redis
def test_no_fault_loses_or_doubles_a_result(start_team):
    """`make stress` has more faults."""
    team = start_team()
    for fault in (kill_worker, restart_broker):
        batch = team.begin(fault.__name__)
        fault(team, batch)
        team.finish(batch)
    # Only checks that were running when a worker died are repeated.
    assert 2 * PROFILES <= len(team.farm.requests) < 4 * PROFILES


@at_length
def test_a_pause_ends_the_tasks_and_the_work_continues_afterwards(start_team):
    team = start_team(processes=12)  # twice as many as there are: orders wait
    batch = team.begin("it", recorded=0)
    team.wait_for(team.broker.count_checks)
    assert "batches.check" in team.active_tasks()
    # Orders wait in the broker for the next free process, not in a worker for its own.
    team.wait_for(lambda: not any(team.inspect("reserved").values()))
    assert team.broker.count_checks()
    assert BatchManager().pause_batch(batch.pk)
    team.wait_for(lambda: sum(worker.err.count("This run is over") for worker in team.workers) >= 1)
    team.wait_for(lambda: not team.broker.count_checks() and "batches.check" not in team.active_tasks())
    assert all("batches.promote" in tasks for tasks in team.inspect("registered").values())
    assert BatchManager().queue_batch(batch.pk)
    team.finish(batch)


@at_length
def test_autoscaling_follows_the_free_partitions(start_team):
    """Celery ends no process while tasks of any kind arrive, and `promote` always does: checks have a worker."""
    pools = ("--queues=batches", "--autoscale=6,1"), ("--queues=batches.others", "--concurrency=2")
    team = start_team(pools=pools, processes=4)
    batch, counts = team.begin("it"), []
    team.wait_for(lambda: counts.append(team.count_processes()) or counts[-1] >= 4)
    assert counts[-1] <= 6
    team.finish(batch)
    team.wait_for(lambda: team.count_processes() == 1)


@with_redis
def test_sigterm_stops_the_tasks_within_their_grace_period_and_leaves_the_rest_pending(start_team):
    team = start_team(workers=1, grace_seconds=1)
    batch = team.begin("it")
    team.beat.signal(signal.SIGTERM)
    [worker] = team.workers
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert not Lease.objects.exists()
    assert values_of(batch.pk)["status"] == Status.RUNNING
    assert "running checks have 1 s to finish" in worker.err


@at_length
def test_the_beat_also_queues_due_lists(start_team):
    due = make_list("due", 2)
    BatchManager().change_list(due.pk, schedule="0 * * * *")
    start_team(workers=1)
    type(due).objects.filter(pk=due.pk).update(next_run_at=due.created_at)
    wait_until(lambda: Batch.objects.filter(list=due).exists())

"""Faults while Celery runs the workers: its processes, its beat, its broker or the database fail, half of the times
with RabbitMQ and half with Redis.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from math import ceil
from typing import Any

from django.db import DatabaseError, connections
from django.db.models import Sum

from batches.models import Batch, Lease
from batches.tests.support.brokers import BROKERS, Broker, BrokerUnavailableError, temporary_broker
from stress.databases import PostgreSQL
from stress.environment import LEASE_SECONDS
from stress.stage import PATIENCE, Stage

#: Seconds: Celery's processes need more time than ours to begin and to be noticed.
LEASE = 4 * LEASE_SECONDS
BEAT = "beat"

Inject = Callable[["Team"], None]


class Team:
    """Celery's workers and its beat, on one broker."""

    def __init__(self, stage: Stage, broker: Broker, twice: bool) -> None:
        self.stage, self.broker = stage, broker
        config = {"EXECUTOR": "celery", "POLL_SECONDS": 0.5, "LEASE_SECONDS": LEASE, "PROCESSES": 2 * stage.workers}
        self._environ = os.environ | {f"BATCHES_{name}": str(value) for name, value in config.items()}
        self._environ |= {"CELERY_BROKER_URL": broker.url, "DATABASE_URL": stage.house.database.url}
        self._environ |= {"STRESS_TWICE": "yes"} if twice else {}
        options = ("--concurrency=3", "--without-gossip", "--without-mingle")
        self.processes: dict[tuple[str, ...], subprocess.Popen[bytes]] = {}
        for number in range(stage.workers):
            self._start("worker", f"--hostname={number}@%h", *options)
        self._start(BEAT)

    def _start(self, *arguments: str) -> None:
        """Start it as a child that ends with the harness, even if that is killed."""
        celery = ["celery", "--quiet", "-A", "stress.celery_app", *arguments]
        command = [sys.executable, "-m", "batches.management.supervisor", "5", *celery]
        with open(self.stage.house.log, "ab") as log:
            self.processes[arguments] = subprocess.Popen(
                command, env=self._environ, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )

    def revive(self) -> None:
        """Restart it like a supervisor: Celery's worker can end when Redis does, by a race in kombu 5.7."""
        for arguments, process in list(self.processes.items()):
            if process.poll() is not None:
                self._start(*arguments)

    def stop(self) -> None:
        at_work = [process for process in self.processes.values() if process.poll() is None]
        for process in at_work:
            process.send_signal(signal.SIGTERM)
        for process in at_work:
            # A process that has just started has no handler yet, and is ended by the signal.
            if process.wait(PATIENCE) not in {0, -signal.SIGTERM}:
                self.stage.breach(f"Celery ended with {process.returncode}")

    def kill(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def kill_worker(team: Team) -> None:
    """A process in the middle of its partitions."""
    leases = list(Lease.objects.values_list("worker", flat=True))
    if leases:
        pid = int(random.choice(leases).rpartition(":")[2])
        if os.path.exists(f"/proc/{pid}"):
            os.kill(pid, signal.SIGKILL)


def restart_database(team: Team) -> None:
    assert isinstance(team.stage.house.database, PostgreSQL)
    team.stage.house.database.restart()
    connections.close_all()


def kill_promoter(team: Team) -> None:
    beat = team.processes[BEAT,]
    beat.kill()
    beat.wait()


def inject(fault: Inject, *, twice: bool = False) -> Callable[[Stage, int], None]:
    def make(stage: Stage, count: int) -> None:
        stage.watch(None)
        for number, name in enumerate(sorted(BROKERS), 1):
            try:
                _inject_with(stage, name, fault, twice, ceil(count * number / len(BROKERS)))
            except BrokerUnavailableError as error:
                stage.not_tried = str(error)
                return
        stage.drain()

    return make


def _inject_with(stage: Stage, broker: str, fault: Inject, twice: bool, count: int) -> None:
    with ExitStack() as stack:
        team = Team(stage, stack.enter_context(temporary_broker(broker)), twice)
        stack.callback(team.kill)
        while stage.has_more_to_try(count):
            _wait_for_progress(stage, team)
            time.sleep(random.uniform(0, 0.5))
            fault(team)
            struck = time.monotonic()
            _wait_for_progress(stage, team)
            stage.recoveries.append(time.monotonic() - struck)
            stage.tried += 1
        team.stop()


def _wait_for_progress(stage: Stage, team: Team) -> None:
    stage.refill()
    before = _count_results()

    def has_progressed() -> bool:
        team.revive()
        return _count_results() not in {before, None}

    stage.wait(has_progressed, "no result was recorded")


def _count_results() -> Any:
    try:
        return Batch.objects.aggregate(total=Sum("completed_profiles"))["total"]
    except DatabaseError:
        connections.close_all()
        return None

"""Four hosts share the batches over a network: each in turn is cut off, killed, frozen or slow."""

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from django.db import connection, connections

from batches.models import Batch, Lease
from stress import namespaces
from stress.databases import PostgreSQL
from stress.environment import POLL_SECONDS, TOLERANCE
from stress.namespaces import GATEWAY, HOSTS, SERVERS
from stress.stage import PATIENCE, Actor, Stage
from stress.worker import work

#: Seconds. A slow host needs longer for each renewal.
LEASE = 2.0
PROFILES, DELAY_MS = 400, 100
#: The longest time without any result.
MAX_STALL = LEASE + POLL_SECONDS + TOLERANCE


def lose_hosts(stage: Stage, count: int) -> None:
    if reason := namespaces.why_not():
        stage.not_tried = reason
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(namespaces.four_hosts())
        except subprocess.CalledProcessError as error:
            stage.not_tried = f"network namespaces cannot be made here: {error.stderr.decode().strip()}"
            return
        stage.url = stack.enter_context(_listening(stage.house.database))
        stage.serve_at(SERVERS)
        team = Team(stage)
        stage.watch(MAX_STALL)
        while stage.has_more_to_try(count):
            (team.cut, team.kill, team.freeze, team.slow_down)[stage.tried % 4]()
            stage.tried += 1
        stage.dismiss(signal.SIGTERM)
        stage.drain()
        stage.settle()  # while its server can be reached


class Team:
    """One worker on each host."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._workers = {host: self._start(host) for host in HOSTS}

    def _start(self, host: str) -> Actor:
        return self._stage.start(work, None, len(HOSTS), host=host)

    def cut(self) -> None:
        """For longer than the lease, so that others take its work, and its late results are refused."""
        host = self._pick()
        namespaces.cut(host)
        self._wait_for_takeover(host)
        namespaces.mend(host)
        self._wait_for_return(host)

    def kill(self) -> None:
        host = self._pick()
        self._workers[host].kill()
        self._wait_for_takeover(host)
        self._workers[host] = self._start(host)
        self._wait_for_return(host)

    def freeze(self) -> None:
        host = self._pick()
        self._workers[host].signal(signal.SIGSTOP)
        self._wait_for_takeover(host)
        self._workers[host].thaw()
        self._wait_for_return(host)

    def slow_down(self) -> None:
        """It keeps its part, and nobody waits for it longer than for a lost one."""
        host = self._pick()
        namespaces.slow_down(host)
        self._wait_for_return(host)
        namespaces.speed_up(host)

    def _pick(self) -> str:
        """A host in the middle of its work."""
        host = random.choice(HOSTS)
        self._wait_for_return(host)
        time.sleep(random.uniform(0, 0.1))
        return host

    def _refill(self) -> None:
        """Batches that all hosts work on for seconds."""
        if Batch.objects.queued().count() < 2:
            self._stage.make_batch(PROFILES, DELAY_MS)

    def _wait_for_takeover(self, host: str) -> None:
        """The others take its part when they have finished theirs. The watcher sees that they continue."""
        began = time.monotonic()
        leases = Lease.objects.filter(worker__endswith=f":{self._workers[host].process.pid}")
        while leases.exists():
            if time.monotonic() > began + PATIENCE:
                self._stage.breach(f"nobody took over from {host} within {PATIENCE:.0f} s")
                return
            self._refill()
            self._stage.listen(0.05)
        self._stage.recoveries.append(time.monotonic() - began)

    def _wait_for_return(self, host: str) -> None:
        """Until it has recorded something, from now on."""
        self._stage.listen(0)
        began = time.monotonic()
        while time.monotonic() < began + PATIENCE:
            self._refill()
            for actor, (kind, at, *_) in self._stage.listen(0.05):
                if actor is self._workers[host] and kind == "recorded" and at > began:
                    return
        self._stage.breach(f"{host} has recorded nothing for {PATIENCE:.0f} s")


@contextmanager
def _listening(database: PostgreSQL) -> Iterator[str]:
    """Let PostgreSQL listen on the bridge as well. Yields its address for the hosts."""
    rules = database.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"{before}\nhost all all {GATEWAY}/24 trust\n")
    _set("listen_addresses", GATEWAY)
    database.restart()
    try:
        yield f"postgres://postgres@{GATEWAY}/{connection.settings_dict['NAME']}"
    finally:
        _set("listen_addresses", "")
        rules.write_text(before)
        database.restart()
        connections.close_all()


def _set(name: str, value: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    connections.close_all()

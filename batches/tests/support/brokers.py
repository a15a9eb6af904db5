"""Real brokers for Celery, each on its own port and in a directory that is removed afterwards."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from kombu import Connection

from batches.checking.celery_settings import CHECKS, QUEUES
from batches.tests.conftest import skip_or_fail

from .ports import free_port
from .postgres import run_as, unprivileged_account
from .processes import wait_until

#: Debian's program in /usr/sbin insists on root or the user rabbitmq.
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
REDIS = shutil.which("redis-server")

#: RabbitMQ starts in 5 s, and on a machine with ten times as much work as cores in a minute.
START_SECONDS = 180.0

#: The program and its group end when the pipe to this process closes, however it ends: also by kill -9.
KEEPER = """
exec 3<&0
("$@" </dev/null; kill -9 0) &
read -r _ <&3
kill -9 0
"""


class BrokerUnavailableError(Exception):
    """The broker cannot be started here. The message says what to install."""


class Broker:
    """`url` and `_launch` are of its kind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()

    def start(self) -> None:
        self.process = self._launch()
        wait_until(self._answers, self._describe, START_SECONDS)

    def kill(self) -> None:
        """With `kill -9`, and wait until its port is free."""
        kill_group(self.process)

    def restart(self) -> None:
        self.kill()
        self.start()

    def empty(self) -> None:
        """Lose every message that no worker has yet."""
        with Connection(self.url) as connection:
            for queue in QUEUES:
                connection.default_channel.queue_purge(queue)

    def count_checks(self) -> int:
        """The orders to check that no worker has yet."""
        with Connection(self.url) as connection:
            declare = connection.default_channel.queue_declare
            count: int = declare(queue=CHECKS, durable=True, auto_delete=False).message_count
            return count

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"The broker has ended.{self._describe()}"
        with suppress(OSError), Connection(self.url, connect_timeout=5) as connection:
            connection.connect()
            return True
        return False

    def _describe(self) -> str:
        return f"\n--- broker ---\n{(self.directory / 'output').read_text()[-3000:]}"

    def _run(self, *command: Any, **options: Any) -> subprocess.Popen[bytes]:
        with open(self.directory / "output", "ab") as output:
            return subprocess.Popen(
                ["/bin/sh", "-c", KEEPER, "keeper", *command],
                cwd=self.directory,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **options,
            )


class Redis(Broker):
    """Without a disk: everything is lost with the process."""

    def __init__(self, directory: Path) -> None:
        if REDIS is None:
            raise BrokerUnavailableError("Redis is not installed: apt-get install redis-server")
        super().__init__(directory)
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def _launch(self) -> subprocess.Popen[bytes]:
        address = ("--port", self.port, "--bind", "127.0.0.1")
        return self._run(REDIS, *address, "--save", "", "--appendonly", "no")

    def empty(self) -> None:
        """Also what Celery has stored about its queues."""
        with Connection(self.url) as connection:
            connection.default_channel.client.flushall()


class RabbitMQ(Broker):
    def __init__(self, directory: Path) -> None:
        if not RABBITMQ.exists():
            raise BrokerUnavailableError("RabbitMQ is not installed: apt-get install rabbitmq-server")
        super().__init__(directory)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._account = unprivileged_account()
        (directory / "plugins").write_text("[].")
        if self._account:
            os.chown(directory, self._account.pw_uid, self._account.pw_gid)
        self._environ = {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C",
            "HOME": str(directory),
            "ERL_EPMD_PORT": free_port(),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": str(directory / "environment"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
            "RABBITMQ_DIST_PORT": free_port(),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_NODENAME": f"batches{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": self.port,
            # One scheduler that does not spin: the tests have two cores.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }
        # Otherwise RabbitMQ starts it as a daemon, and nobody ends it.
        self.names = self._start("epmd")

    def _launch(self) -> subprocess.Popen[bytes]:
        return self._start(RABBITMQ)

    def _start(self, *command: Any) -> subprocess.Popen[bytes]:
        return self._run(*command, env=self._environ, **run_as(self._account))


BROKERS = {"redis": Redis, "rabbitmq": RabbitMQ}


@contextmanager
def temporary_broker(name: str) -> Iterator[Broker]:
    """Raises BrokerUnavailableError."""
    with ExitStack() as stack:
        # Always /tmp: the broker's user needs access.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"batches-{name}-", dir="/tmp")))
        broker = BROKERS[name](directory)
        if isinstance(broker, RabbitMQ):
            stack.callback(kill_group, broker.names)
        broker.start()
        stack.callback(broker.kill)
        yield broker


def kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@contextmanager
def open_broker(name: str) -> Iterator[Broker]:
    """For a test: skips it, or fails in CI, if the broker is missing."""
    try:
        with temporary_broker(name) as broker:
            yield broker
    except BrokerUnavailableError as error:
        skip_or_fail(str(error))

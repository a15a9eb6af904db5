"""`manage.py` commands as real processes on the database of the test."""

import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

from django.conf import settings

from .checkers import NAMES

#: Generous: a busy machine must not fail a test.
WAIT_SECONDS = 180.0
MANAGE = (sys.executable, str(settings.BASE_DIR / "manage.py"))

#: For every child process: checks can reach the test's server and wait for it; all other waits are short.
ENVIRONMENT = {
    "BATCHES_ALLOWED_NETWORKS": "127.0.0.0/8",
    "BATCHES_CHECK_TIMEOUT": "600",
    "BATCHES_CHECKERS": ",".join(f"{name}={path}" for name, path in NAMES.items()),
    "BATCHES_POLL_SECONDS": "0.05",
    "BATCHES_PROCESSES": "1",
    "BATCHES_RECORD_SECONDS": "0.05",
    "BATCHES_RETRIES": "0",
    "BATCHES_TIMEOUT": "600",
    # Containers often set it. The output of an installation is buffered.
    "PYTHONUNBUFFERED": "",
}


def wait_until(condition: Callable[[], Any], describe: Callable[[], str] = str, seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"The condition never became true.{describe()}"
        time.sleep(0.02)  # the condition may query the database, and the awaited process needs the processor


class Command:
    """A running command. Its output goes to files, so that a full pipe never blocks it."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], **streams: Any) -> None:
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 — closed in `kill`
        self.popen = subprocess.Popen(
            command,
            env=environ,
            **{"stdin": subprocess.DEVNULL, "stdout": self._out, "stderr": self._err} | streams,
        )

    @property
    def out(self) -> str:
        return _read_file(self._out)

    @property
    def err(self) -> str:
        return _read_file(self._err)

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self) -> int:
        """Wait until it ends, and return its exit code."""
        try:
            return self.popen.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"It has not ended after {WAIT_SECONDS} s.{self.describe()}") from None

    def wait_for(self, condition: Callable[[], Any]) -> None:
        """Poll until the condition holds; fail if the process ends first."""

        def holds() -> Any:
            has_ended = self.popen.poll() is not None  # asked first: the condition then sees all that it did
            held = condition()
            assert held or not has_ended, f"It ended before the condition became true.{self.describe()}"
            return held

        wait_until(holds, self.describe)

    def describe(self) -> str:
        return f"\n--- output ---\n{self.out}\n--- errors ---\n{self.err}"

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.popen.kill()
        self.popen.wait()
        self._out.close()
        self._err.close()


class CommandAtTerminal(Command):
    """A command at a terminal."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._screen, terminal = pty.openpty()
        self._output = b""
        super().__init__(command, environ, stdin=terminal, stdout=terminal, stderr=terminal)
        os.close(terminal)
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def out(self) -> str:
        return self._output.decode()

    def wait(self) -> int:
        code = super().wait()
        self._reader.join(WAIT_SECONDS)
        return code

    def _read(self) -> None:
        with suppress(OSError):  # raised on Linux when the last process closes the terminal
            while piece := os.read(self._screen, 4096):
                self._output += piece

    def kill(self) -> None:
        super().kill()
        self._reader.join(WAIT_SECONDS)
        os.close(self._screen)


class Commands(ExitStack):
    """Starts commands on one database. Finally, it kills running commands with their children.

    What a killed supervisor leaves behind would write to the database of the next test. The processes are known by a
    variable that they inherit.
    """

    def __init__(self, database_url: str) -> None:
        super().__init__()
        mark = {"BATCHES_TEST_COMMANDS": uuid4().hex}
        self.environ: Mapping[str, str] = os.environ | ENVIRONMENT | mark | {"DATABASE_URL": database_url}
        self.callback(kill_marked, *mark.items())

    def start(self, *arguments: str, environ: Mapping[str, str] | None = None, **streams: Any) -> Command:
        return self.start_program(*MANAGE, *arguments, environ=environ, **streams)

    def start_program(self, *command: str, environ: Mapping[str, str] | None = None, **streams: Any) -> Command:
        return self._keep(Command(command, {**self.environ, **(environ or {})}, **streams))

    def run(self, *arguments: str, code: int = 0, **environ: str) -> Command:
        """A command that has ended with this exit code."""
        return ended(self.start(*arguments, environ=environ), code)

    def start_at_terminal(self, *arguments: str) -> CommandAtTerminal:
        return self._keep(CommandAtTerminal((*MANAGE, *arguments), self.environ))

    def start_worker(self, **config: object) -> Command:
        """Start a worker with these settings: keys of `BATCHES` in lower case."""
        environ = {f"BATCHES_{key.upper()}": str(value) for key, value in config.items()}
        return self.start("batchworker", environ=environ)

    def _keep(self, command: Any) -> Any:
        self.callback(command.kill)
        return command


def ended(command: Command, code: int = 0) -> Command:
    assert command.wait() == code, command.describe()
    return command


def kill_marked(mark: tuple[str, str]) -> None:
    """Kill the processes with this environment variable, until none has started another one (on Linux)."""
    entry = "=".join(mark).encode()
    while any(_kill_if_marked(int(path.name), entry) for path in Path("/proc").glob("[0-9]*")):
        pass


def _kill_if_marked(pid: int, entry: bytes) -> bool:
    """Unlike the number of a process, its file descriptor never means a later process."""
    with (
        suppress(ProcessLookupError, FileNotFoundError, PermissionError),
        open(os.pidfd_open(pid)) as process,
    ):
        if entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            signal.pidfd_send_signal(process.fileno(), signal.SIGKILL)
            ended, _, _ = select.select([process], [], [], WAIT_SECONDS)
            assert ended, f"Process {pid} does not end after SIGKILL."
            return True
    return False


def all_in_one(*lines: str) -> list[str]:
    """The arguments of `manage.py` for these commands, one after the other: to start a process takes longest."""
    calls = f"[call_command(*shlex.split(it)) for it in {lines!r}]"
    return [
        *("shell", "--no-imports", "--verbosity=0", "--command"),
        f"import shlex; from django.core.management import call_command; {calls}",
    ]


def run_python(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `python …` in the project's directory to its end, with these variables in addition."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=settings.BASE_DIR,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )


def _read_file(file: Any) -> str:
    """Read without moving the position at which the process writes."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()

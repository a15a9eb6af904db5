"""`manage.py` commands as real processes on the test's own database: started, waited for, given signals."""

import os
import pty
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from threading import Thread
from types import TracebackType
from typing import Any, Self

from django.conf import settings

from .checkers import NAMES

#: Generous: a busy machine must not fail a test.
WAIT_SECONDS = 60.0
MANAGE = (sys.executable, str(settings.BASE_DIR / "manage.py"))

#: For every child: checks may reach the test's server and wait for it, and nobody else waits for long.
ENVIRONMENT = {
    "BATCHES_ALLOWED_NETWORKS": "127.0.0.0/8",
    "BATCHES_CHECK_TIMEOUT": "600",
    "BATCHES_CHECKERS": ",".join(f"{name}={path}" for name, path in NAMES.items()),
    "BATCHES_POLL_SECONDS": "0.05",
    "BATCHES_RECORD_SECONDS": "0.05",
    "BATCHES_RETRIES": "0",
    "BATCHES_TIMEOUT": "600",
    # Set where tests often run; an installation's output is buffered.
    "PYTHONUNBUFFERED": "",
}


class Command:
    """A running `manage.py` command. What it writes goes to files, so that nobody has to read along."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], **streams: Any) -> None:
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 — closed in `kill`
        self.popen = subprocess.Popen(
            command,
            env=environ,
            **{"stdin": subprocess.DEVNULL, "stdout": self._out, "stderr": self._err} | streams,
        )

    @property
    def out(self) -> str:
        return _content(self._out)

    @property
    def err(self) -> str:
        return _content(self._err)

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        try:
            return self.popen.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"It has not ended after {WAIT_SECONDS} s.{self.said}") from None

    def wait_for(self, condition: Callable[[], Any]) -> None:
        """Until the condition holds, which is asked again and again while the process runs."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"This never came true while it ran.{self.said}"
            assert self.popen.poll() is None or condition(), f"It ended before this came true.{self.said}"
            time.sleep(0.01)

    @property
    def said(self) -> str:
        return f"\n--- output ---\n{self.out}\n--- errors ---\n{self.err}"

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.popen.kill()
        self.popen.wait()
        self._out.close()
        self._err.close()


class CommandAtTerminal(Command):
    """A command whose standard streams are a terminal, as a person has it."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._screen, terminal = pty.openpty()
        self._shown = b""
        super().__init__(command, environ, stdin=terminal, stdout=terminal, stderr=terminal)
        os.close(terminal)
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def out(self) -> str:
        return self._shown.decode()

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def ended(self) -> int:
        code = super().ended()
        self._reader.join(WAIT_SECONDS)
        return code

    def _read(self) -> None:
        with suppress(OSError):  # Linux says so when the last process has closed the terminal
            while piece := os.read(self._screen, 4096):
                self._shown += piece

    def kill(self) -> None:
        super().kill()
        self._reader.join(WAIT_SECONDS)
        os.close(self._screen)


class Commands:
    """Starts commands on one database; those that still run at the end are killed."""

    def __init__(self, database_url: str) -> None:
        self.environ: Mapping[str, str] = os.environ | ENVIRONMENT | {"DATABASE_URL": database_url}
        self._started = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._started.close()

    def start(self, *arguments: str, environ: Mapping[str, str] | None = None, **streams: Any) -> Command:
        return self.start_program(*MANAGE, *arguments, environ=environ, **streams)

    def start_program(self, *command: str, environ: Mapping[str, str] | None = None, **streams: Any) -> Command:
        return self._keep(Command(command, {**self.environ, **(environ or {})}, **streams))

    def start_at_terminal(self, *arguments: str) -> CommandAtTerminal:
        return self._keep(CommandAtTerminal((*MANAGE, *arguments), self.environ))

    def start_worker(self, **config: object) -> Command:
        """A worker, with keys of `BATCHES` in lower case."""
        return self.start(
            "batchworker", environ={f"BATCHES_{key.upper()}": str(value) for key, value in config.items()}
        )

    def _keep(self, command: Any) -> Any:
        self._started.callback(command.kill)
        return command


def _content(file: Any) -> str:
    """Read without moving the place at which the process writes."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()

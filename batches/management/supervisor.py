"""Runs several processes as one: one output for all lines, one signal that stops them in order, none left running.

`supervise` runs in the parent, `main` (`python -m batches.management.supervisor`) in each child. Not honcho: children
outlive its SIGKILL or SIGHUP, and it stops all of them at once and kills them after 5 s, within our grace period.
"""

from __future__ import annotations

import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds to wait for the last lines of a child that has ended.
DRAIN_SECONDS = 1.0

Echo = Callable[[str, str], None]


@dataclass(frozen=True)
class Child:
    """A process that runs `python -m module arguments…`. `grace` is its seconds between SIGTERM and SIGKILL.

    If it `listens_on` a host and port, the next child starts when it does.
    """

    name: str
    module: str
    arguments: Sequence[str]
    grace: float
    environ: Mapping[str, str] = field(default_factory=dict)
    listens_on: tuple[str, int] | None = None


def supervise(children: Sequence[Child], echo: Echo) -> str:
    """Run the children until SIGINT, SIGTERM or SIGHUP arrives, or until one of them ends.

    They start in the given order and stop in reverse, each within its grace period. A second signal kills them.
    `echo(name, line)` receives every line they write, and is called from several threads. Returns how a child ended
    by itself, or "" after a signal.
    """
    for number in STOP_SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # ignored under `nohup`
            signal.signal(number, signal.default_int_handler)
    # If nobody reads the output any longer, this process ends, and with it the children (see `_end_with_supervisor`).
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    running: list[Running] = []
    ended: SimpleQueue[Running] = SimpleQueue()
    fault = ""
    try:
        with suppress(KeyboardInterrupt):
            for child in children:
                running.append(Running(child, echo, ended))
                running[-1].wait_until_it_listens()
            fault = ended.get().exit_reason
        with suppress(KeyboardInterrupt):
            for process in reversed(running):
                process.stop()
    finally:
        for process in running:
            process.kill()
    return fault


class Running:
    """A started child. Its own session shields it from the terminal's Ctrl-C: we stop it when its turn comes."""

    def __init__(self, child: Child, echo: Echo, ended: SimpleQueue[Running]) -> None:
        self.child = child
        self.echo = echo
        # With it, the children find the project wherever they are started from.
        import_path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(  # noqa: S603 — our own command, no shell
            [sys.executable, "-P", "-m", __name__, str(child.grace), child.module, *child.arguments],
            env={**os.environ, "PYTHONPATH": import_path, "PYTHONUNBUFFERED": "1", **child.environ},
            stdin=subprocess.PIPE,  # the lifeline; never written to
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        echo(child.name, f"started as process {self.process.pid}")
        self.relay = Thread(target=self._relay_lines, daemon=True)
        self.relay.start()
        Thread(target=self._watch, args=(ended,), daemon=True).start()

    @property
    def exit_reason(self) -> str:
        code = self.process.returncode
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return f"{self.child.name} ended unexpectedly ({how})"

    def wait_until_it_listens(self) -> None:
        """Return when it listens, or has ended."""
        while self.child.listens_on and self.process.poll() is None:
            with suppress(OSError), socket.create_connection(self.child.listens_on, timeout=1.0):
                return
            time.sleep(0.05)

    def stop(self) -> None:
        """Send SIGTERM, and wait until the child has ended or its grace period is over."""
        self.process.terminate()
        try:
            self.process.wait(self.child.grace)
        except subprocess.TimeoutExpired:
            self.echo(self.child.name, f"did not stop within {self.child.grace:g} s and is killed")

    def kill(self) -> None:
        """Kill the child, if it still runs, and the processes it started."""
        with suppress(ProcessLookupError, PermissionError):  # all have ended; macOS raises PermissionError
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.relay.join(DRAIN_SECONDS)

    def _relay_lines(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.echo(self.child.name, line.rstrip("\n"))

    def _watch(self, ended: SimpleQueue[Running]) -> None:
        self.process.wait()
        ended.put(self)


def main() -> None:
    """In the child: run a module like `python -m`, and end when the supervisor ends, even by SIGKILL."""
    grace, module, *arguments = sys.argv[1:]
    # waitress closes cleanly on SystemExit but ignores SIGTERM. Modules with their own handler replace this one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Thread(target=_end_with_supervisor, args=(float(grace),), daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_supervisor(grace: float) -> None:
    """Our standard input is a pipe that only the supervisor holds open: the kernel closes it even after SIGKILL."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()

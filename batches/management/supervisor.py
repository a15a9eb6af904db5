"""Several processes run as one: their lines on one output, one signal that stops them in order, none left behind.

Both sides stand here: `supervise` is the parent's, `main` is what `python -m batches.management.supervisor` does in
each child.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds for the last lines of a child that has ended.
DRAIN_SECONDS = 1.0

Echo = Callable[[str, str], None]


@dataclass(frozen=True)
class Child:
    """A process that runs `python -m module arguments…`. `grace` is its seconds between SIGTERM and SIGKILL."""

    name: str
    module: str
    arguments: Sequence[str]
    grace: float
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-P", "-m", __name__, str(self.grace), self.module, *self.arguments]

    @property
    def environment(self) -> dict[str, str]:
        """This process's, with its import path: the children find the project wherever they are started from."""
        import_path = os.pathsep.join(path for path in sys.path if path)
        return {**os.environ, "PYTHONPATH": import_path, "PYTHONUNBUFFERED": "1", **self.environ}


def supervise(children: Sequence[Child], echo: Echo) -> str:
    """Run the children until SIGINT, SIGTERM or SIGHUP, or until one ends by itself.

    They start in the order given and stop in the reverse one, each within its grace; a second signal cuts that short.
    `echo(name, line)` is given every line that they write, and is called by several threads. Returns a sentence about
    the child that ended by itself, empty after a signal.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    # Output that nobody reads any more ends this process, and that ends the children (see `_end_with_supervisor`).
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    running: list[Running] = []
    ended: SimpleQueue[Running] = SimpleQueue()
    fault = ""
    try:
        for child in children:
            running.append(Running(child, echo, ended))  # noqa: PERF401 — what a signal leaves behind must be known
        fault = ended.get().obituary
    except KeyboardInterrupt:
        pass
    stop_all(running)
    return fault


def stop_all(running: Sequence[Running]) -> None:
    try:
        for process in reversed(running):
            process.stop()
    except KeyboardInterrupt:
        pass
    finally:
        for process in running:
            process.kill()


class Running:
    """A started child. Its own session keeps the terminal's Ctrl-C from it: it is stopped in its turn, and once."""

    def __init__(self, child: Child, echo: Echo, ended: SimpleQueue[Running]) -> None:
        self.child = child
        self.echo = echo
        self.process = subprocess.Popen(  # noqa: S603 — our own command, no shell
            child.command,
            env=child.environment,
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
    def obituary(self) -> str:
        code = self.process.returncode
        how = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
        return f"{self.child.name} ended unexpectedly, {how}"

    def stop(self) -> None:
        """SIGTERM, and return when the child has ended or its grace is over."""
        self.process.terminate()
        try:
            self.process.wait(self.child.grace)
        except subprocess.TimeoutExpired:
            self.echo(self.child.name, f"has not ended after {self.child.grace:g} s and is killed")

    def kill(self) -> None:
        """Ends what is left of the child and of the processes it started."""
        with suppress(ProcessLookupError, PermissionError):  # nothing is left; macOS says so with PermissionError
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
    """In the child: run a module as `python -m` would, and end when the supervisor ends, however that happened."""
    grace, module, *arguments = sys.argv[1:]
    # waitress closes cleanly on SystemExit but knows no SIGTERM; modules with handlers of their own replace this one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Thread(target=_end_with_supervisor, args=(float(grace),), daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_supervisor(grace: float) -> None:
    """The supervisor holds the other end of our standard input: the kernel closes it even after SIGKILL."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()

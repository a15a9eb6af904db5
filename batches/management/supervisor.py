"""Runs several processes as one: it combines their output, stops them in order after one signal, and leaves none
running.

`supervise` runs in the parent, `main` (`python -m batches.management.supervisor`) in each child. It replaces honcho:
honcho's children outlive its SIGKILL or SIGHUP, and it kills them after 5 s, within our grace period.
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
from itertools import groupby
from queue import Empty, SimpleQueue
from threading import Thread

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds to wait for the last lines of a child that has ended.
DRAIN_SECONDS = 1.0
#: Seconds before a child is restarted: at first, and at most. After a long run, the delay begins again.
FIRST_DELAY, LONGEST_DELAY, LONG_LIFE = 1.0, 60.0, 120.0

Echo = Callable[[str, str], None]


@dataclass(frozen=True)
class Child:
    """A process that runs `python -m module arguments…`. `grace` is its seconds between SIGTERM and SIGKILL.

    If it `restarts`, it is restarted when it ends, after a delay that doubles while its runs are short. It may end with
    exit code 0 if it `may_finish`.
    """

    name: str
    module: str
    arguments: Sequence[str]
    grace: float
    environ: Mapping[str, str] = field(default_factory=dict)
    restarts: bool = False
    may_finish: bool = False


def supervise(children: Sequence[Child], echo: Echo) -> str:
    """Run the children until SIGINT, SIGTERM or SIGHUP arrives, or until a child that does not restart ends.

    They start in the given order and stop in reverse, each within its grace period; those that restart stop together. A
    second signal kills them. `echo(name, line)` receives every line they write, and is called from several threads.
    Returns how a child ended unexpectedly, or "" after a signal.
    """
    for number in STOP_SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # ignored under `nohup`
            signal.signal(number, signal.default_int_handler)
    # If nobody reads the output, this process ends, and the children end with it (see `_end_with_supervisor`).
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    running: list[Running] = []
    ended: SimpleQueue[Running | None] = SimpleQueue()
    fault = ""
    try:
        with suppress(KeyboardInterrupt):
            for child in children:
                running.append(Running(child, echo, ended))
                running[-1].follow()
            fault = keep_running(running, ended)
        with suppress(KeyboardInterrupt):
            stop(running)
    finally:
        for process in running:
            process.kill()
    return fault


def keep_running(running: list[Running], ended: SimpleQueue[Running | None]) -> str:
    """Start children again that restart, until another one ends. Returns how; "" if None in the queue ended it."""
    waiting: dict[str, tuple[float, Running]] = {}  # the time of each restart
    while True:
        next_start = min((at for at, _ in waiting.values()), default=None)
        try:
            process = ended.get(timeout=None if next_start is None else max(0.0, next_start - time.monotonic()))
        except Empty:
            for at, dead in list(waiting.values()):
                if at <= time.monotonic():
                    del waiting[dead.child.name]
                    place, delay = running.index(dead), min(2 * dead.next_delay, LONGEST_DELAY)
                    running[place] = Running(dead.child, dead.echo, ended, delay)
                    running[place].follow()
            continue
        if process is None:
            return ""
        if process.child.may_finish and process.process.returncode == 0:
            continue
        if not process.child.restarts:
            return process.exit_reason
        process.kill()  # the processes that it has started
        process.echo(process.child.name, f"{process.exit_reason}, and starts again in {process.next_delay:g} s")
        waiting[process.child.name] = time.monotonic() + process.next_delay, process


def stop(running: Sequence[Running]) -> None:
    """Stop the children in reverse order, each within its grace period."""
    for _, group in groupby(reversed(running), key=lambda process: process.child.restarts or process.child.name):
        together = list(group)
        for process in together:
            process.process.terminate()
        for process in together:
            process.wait_for_end()


class Running:
    """A started child. Its own session shields it from the terminal's Ctrl-C: we stop it when its turn comes.

    Call `follow` when a signal handler can find it: until then, nobody sees that it runs.
    """

    def __init__(self, child: Child, echo: Echo, ended: SimpleQueue[Running | None], delay: float = 0.0) -> None:
        self.child = child
        self.echo = echo
        self._ended = ended
        self._delay = delay or FIRST_DELAY
        self._started = time.monotonic()
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

    def follow(self) -> None:
        """Pass on its lines, and report its end."""
        self.relay.start()
        Thread(target=self._watch, daemon=True).start()

    @property
    def next_delay(self) -> float:
        """Seconds before it should start again."""
        return FIRST_DELAY if time.monotonic() - self._started > LONG_LIFE else self._delay

    @property
    def exit_reason(self) -> str:
        code = self.process.returncode
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return f"{self.child.name} ended unexpectedly ({how})"

    def wait_for_end(self) -> None:
        """After SIGTERM, until the child has ended or its grace period is over."""
        try:
            self.process.wait(self.child.grace)
        except subprocess.TimeoutExpired:
            self.echo(self.child.name, f"did not stop within {self.child.grace:g} s and is killed")

    def kill(self) -> None:
        """Kill the child, if it still runs, and the processes it started."""
        with suppress(ProcessLookupError, PermissionError):  # all processes have ended; macOS raises PermissionError
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.relay.is_alive():  # a signal may arrive before it is followed
            self.relay.join(DRAIN_SECONDS)

    def _relay_lines(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.echo(self.child.name, line.rstrip("\n"))

    def _watch(self) -> None:
        self.process.wait()
        self._ended.put(self)


def main() -> None:
    """In the child: run a module like `python -m`, and end when the supervisor ends, even by SIGKILL."""
    grace, module, *arguments = sys.argv[1:]
    # waitress closes cleanly on SystemExit but ignores SIGTERM. Modules with their own handler replace this one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Thread(target=_end_with_supervisor, args=(float(grace),), daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_supervisor(grace: float) -> None:
    """End with the supervisor. Only the supervisor holds the pipe to our standard input, and the kernel closes the pipe
    even after SIGKILL.
    """
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()

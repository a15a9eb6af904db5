"""A process that reads documents. If it crashes, computes for ever or fills its memory, only that document is lost."""

import os
import resource
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from .reading import Body, Reading, Unreadable, read

#: Maximum bytes of its data. It starts with 20 MB, and the largest readable document takes 250 MB.
MAX_MEMORY = 400_000_000
#: A process with more than this after a document ends, since it will not return the memory.
MAX_KEPT_MEMORY = 100_000_000
#: Seconds to wait for an answer. A document needs this long to use up its computing time only on a very busy machine.
PATIENCE = 120.0

COMMAND = f"import sys; sys.path[:] = sys.argv[2:]; from {__name__} import serve; serve(int(sys.argv[1]))"


class Outcome(NamedTuple):
    """`error` is the reason for an unreadable document, `fault` the traceback of a bug."""

    reading: Reading | None = None
    error: str = ""
    fault: str = ""
    ends: bool = False


class ParserProcess:
    """Starts with its first document, and again after each death. One thread at a time may `read`."""

    def __init__(self, cpu_seconds: float) -> None:
        self._cpu_seconds = cpu_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._is_killed = False

    def read(self, body: Body, *, thoroughly: bool) -> Reading | None:
        """Like `reading.read`. Also raises Unreadable if the document exceeded the limits of the process."""
        outcome = self._ask(self._connection or self._start(), body, thoroughly)
        if outcome.ends:
            self._bury()
        if outcome.fault:
            raise RuntimeError(outcome.fault)
        if outcome.error:
            raise Unreadable(outcome.error)
        return outcome.reading

    def kill(self) -> None:
        """End the process, now or as soon as it starts. A thread that is reading gets Unreadable."""
        self._is_killed = True
        if process := self._process:
            process.kill()

    def close(self) -> None:
        if self._process is not None:
            self._bury()

    def _start(self) -> Connection:
        self._connection, theirs = Pipe()
        with theirs:
            number = theirs.fileno()
            arguments = [sys.executable, "-c", COMMAND, str(number), *sys.path]
            self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, pass_fds=[number])  # noqa: S603
        return self._connection

    def _ask(self, connection: Connection, body: Body, thoroughly: bool) -> Outcome:
        if self._is_killed:
            self.kill()  # it has just been started
        with suppress(EOFError, OSError):
            connection.send((body, thoroughly, self._cpu_seconds))
            if connection.poll(PATIENCE):
                outcome: Outcome = connection.recv()
                return outcome
        return Outcome(error=self._explain(self._bury()))

    def _bury(self) -> int:
        """Returns the number of the signal that ended the process."""
        assert self._process is not None
        assert self._connection is not None
        self._connection.close()
        self._process.kill()
        code = self._process.wait()
        self._process = self._connection = None
        return -code

    def _explain(self, number: int) -> str:
        if number == signal.SIGPROF:
            return f"reading the document takes more than {self._cpu_seconds:g} s of computing"
        name = signal.Signals(number).name if number in set(signal.Signals) else f"status {-number}"
        return f"the process that read the document ended ({name})"


def serve(number: int) -> None:
    """Answer requests until the worker closes the connection or dies. Only the worker ends this process."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    os.nice(5)  # the event loop has priority
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    with Connection(number) as connection, suppress(EOFError, OSError):
        ends = False
        while not ends:
            outcome = answer_request(*connection.recv())
            ends = measure_memory() > MAX_KEPT_MEMORY
            connection.send(outcome._replace(ends=ends))


def answer_request(body: Body, thoroughly: bool, cpu_seconds: float) -> Outcome:
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    try:
        return Outcome(read(body, thoroughly=thoroughly))
    except Unreadable as error:
        return Outcome(error=str(error))
    except MemoryError:
        return Outcome(error=f"reading the document takes more than {MAX_MEMORY / 1e6:g} MB of memory")
    except Exception:
        return Outcome(fault=traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def measure_memory() -> int:
    """Bytes of this process in memory, or 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0

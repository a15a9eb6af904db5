"""Runs commands and measures them as whole processes: time, CPU and memory, with everything that they start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
VAR = Path(os.environ.get("BENCH_VAR") or ROOT / "var" / "bench")
PEERS = ROOT / "benchmarks" / "peers"
PEER_PYTHON = VAR / "venv" / "bin" / "python"
NODE_MODULES = VAR / "node" / "node_modules"

#: Let Python store its bytecode, whatever the environment says: otherwise each start compiles it again.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

#: The end of the time of the row that is being measured, and of every command that runs longer.
_end = float("inf")
#: Seconds between two measurements of a command's memory. Each costs the kernel a walk through its pages.
SAMPLE_SECONDS = 0.25


class CommandFailed(Exception):
    """The message is one line about the exit code or the time limit, and the end of the output."""


@dataclass(frozen=True, slots=True)
class Finished:
    """`cpu` is in seconds, of the command and of all its children; `memory` is the peak of all of them in MB."""

    seconds: float
    cpu: float
    memory: float
    output: str

    @property
    def figures(self) -> dict[str, Any]:
        """The JSON object in the last line of the output."""
        try:
            figures: dict[str, Any] = json.loads(self.output.strip().splitlines()[-1])
        except (IndexError, ValueError) as error:
            raise CommandFailed(f"printed no figures: {self.output[-300:]}") from error
        return figures


def limit_commands(seconds: float) -> None:
    """From now on, stop any command after this time."""
    global _end
    _end = time.monotonic() + seconds


def seconds_left() -> float:
    return max(_end - time.monotonic(), 0.0)


def run(command: Sequence[object], env: Mapping[str, str] | None = None, cwd: Path = ROOT, stdin: str = "") -> Finished:
    """Run a command to its end. Raises CommandFailed if it fails or if the time of the row is over."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = start(command, env, cwd, output, stdin)
        try:
            with watch_memory(process.pid) as megabytes:
                usage = wait(process)
        except BaseException:  # Ctrl-C reaches only us
            stop(process)
            raise
        seconds = time.perf_counter() - started
        output.seek(0)
        text = output.read().decode(errors="replace")
    name = " ".join([Path(str(command[0])).name, *map(str, command[1:2])])
    if usage is None:
        raise CommandFailed(f"{name} was stopped after {seconds:.0f} s: the time of the row was over")
    if process.returncode:
        raise CommandFailed(f"{name} exited with {process.returncode}: {last_line(text)}")
    return Finished(seconds, usage.ru_utime + usage.ru_stime, max(megabytes), text)


def last_line(text: str) -> str:
    """The most informative line: the line of the exception, or the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" ^~")]
    return lines[-1][:400] if lines else "no output"


def start(
    command: Sequence[object], env: Mapping[str, str] | None, cwd: Path, output: Any, stdin: str = ""
) -> subprocess.Popen[bytes]:
    """Start a command in a separate process group, so that it can be stopped with all its children."""
    process = subprocess.Popen(
        [str(part) for part in command],
        env={**ENVIRONMENT, **(env or {})},
        cwd=cwd,
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    if process.stdin:
        process.stdin.write(stdin.encode())
        process.stdin.close()
    return process


def wait(process: subprocess.Popen[bytes]) -> Any:
    """Its resource usage, including its children's; None if it had to be stopped."""
    timer = threading.Timer(seconds_left(), stop, [process])
    if _end != float("inf"):
        timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return None if process.returncode < 0 and not seconds_left() else usage


def stop(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def background(command: Sequence[object], env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs until the context ends: SIGTERM, then SIGKILL after 30 s."""
    VAR.mkdir(parents=True, exist_ok=True)
    with (VAR / "background.log").open("ab") as output:
        process = start(command, env, ROOT, output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            stop(process)
            process.wait()


@contextmanager
def watch_memory(pid: int) -> Iterator[list[float]]:
    """The megabytes of a process and its descendants, again and again, without counting shared pages twice."""
    samples: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        while not samples or not ended.wait(SAMPLE_SECONDS):
            samples.append(sum(map(memory_of, family_of(pid))))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def family_of(pid: int) -> list[int]:
    """The process and its running descendants."""
    family = [pid]
    for member in family:
        with suppress(OSError):
            for task in Path(f"/proc/{member}/task").iterdir():
                family += [int(child) for child in (task / "children").read_text().split()]
    return family


def memory_of(pid: int) -> float:
    """Megabytes: the proportional set size, which divides shared pages among their users."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def manage(*arguments: object) -> list[object]:
    """A command of the project."""
    return [sys.executable, "manage.py", *arguments]


def peer(script: str, **options: object) -> list[object]:
    """Run a script in `peers/` in the peers' own environment. It prints figures as JSON."""
    return [PEER_PYTHON, PEERS / script, json.dumps(options)]

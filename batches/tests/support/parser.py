"""A parser process that obeys: its documents are commands. See `obedient` in `checking/checkers/test_parsers.py`."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from batches.checking.checkers import parser_process
from batches.checking.checkers.page import Declared
from batches.checking.checkers.parser_process import serve
from batches.checking.checkers.reading import Body, Reading

__all__ = ["serve"]


def compute(_: str) -> None:
    while True:
        pass


def fill(_: str) -> None:
    pieces = []
    while True:
        pieces.append(bytearray(10_000_000))


def die(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(_: str) -> None:
    raise ZeroDivisionError("a bug of ours")


def wait(path: str) -> None:
    """Until somebody opens the other end of the pipe."""
    Path(path).read_bytes()


def log(line: str) -> None:
    """Append a text to a file: "path text"."""
    path, _, text = line.partition(" ")
    with Path(path).open("a") as file:
        file.write(f"{text}\n")


KEPT = []


def grow(_: str) -> None:
    KEPT.append(b"x" * 150_000_000)


COMMANDS: dict[str, Callable[[str], None]] = {
    command.__name__: command for command in (compute, fill, die, fail, wait, log, grow)
}


def obey(body: Body, *, thoroughly: bool) -> Reading:
    """A body is a command and its argument, and whitespace up to the size that a test wants."""
    command, _, argument = body.content.decode().strip().partition(" ")
    if command in COMMANDS:
        COMMANDS[command](argument)
    return Reading(page=Declared() if thoroughly else None)


parser_process.read = obey  # type: ignore[assignment]

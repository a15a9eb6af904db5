"""What the commands with subcommands have in common."""

from __future__ import annotations

import getpass
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from io import TextIOWrapper
from string import hexdigits
from typing import Any, TypeVar
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet

from batches.batch_manager import BatchManager
from batches.management.preflight import require_migrations
from batches.models import DATABASE_FAULTS, Batch, Channel
from batches.models.vocabulary import as_json
from batches.queue.refusals import Refusal
from batches.web.outages import describe_outage_to_operator

T = TypeVar("T")

MAX_LIMIT = 1_000_000


class ActionCommand(BaseCommand):
    """A command with subcommands, called actions. A refused action exits with status 1 and its reason on stderr."""

    def add_arguments(self, parser: CommandParser) -> None:
        self._actions = parser.add_subparsers(required=True, metavar="ACTION")

    def add_action(self, name: str, act: Callable[..., None], description: str) -> ArgumentParser:
        """The parser of an action; `act` is called with the command and the options."""
        parser: ArgumentParser = self._actions.add_parser(name, help=description, description=description)
        parser.set_defaults(act=act)
        return parser

    def handle(self, *args: Any, act: Callable[..., None], **options: Any) -> None:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a name may have letters that this terminal cannot show
        require_migrations()
        try:
            with database_faults_as_sentences():
                act(self, **options)
        except BrokenPipeError:
            pass  # the reader, such as `head`, has seen enough
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=130) from None
        finally:
            flush_or_discard()

    @cached_property
    def manager(self) -> BatchManager:
        return BatchManager(actor=_user(), channel=Channel.COMMAND)

    def require_accepted(self, outcome: T | Refusal) -> T:
        """The outcome of a call of the manager. Raises CommandError for a refusal."""
        if isinstance(outcome, Refusal):
            raise CommandError(outcome.message)
        return outcome

    def find_batch(self, batch_id: str) -> Batch:
        """The batch with this ID, or with the only ID that starts like this. Raises CommandError."""
        matches = list(_with_id_prefix(batch_id.strip().replace("-", ""))[:2])
        if not matches:
            raise CommandError(f"No batch has the ID {batch_id[:40]!r}. List the batches: manage.py batch list")
        if len(matches) > 1:
            raise CommandError(f"Several batches have an ID that starts with {batch_id!r}. Enter more characters.")
        return matches[0]

    def print_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.stdout.write(line)

    def print_json(self, value: Any) -> None:
        self.stdout.write(as_json(value, indent=2))

    def print_file(self, lines: Iterable[str]) -> None:
        """In UTF-8, whatever the terminal uses: the import reads UTF-8."""
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        for line in lines:
            self.stdout.write(line, ending="")


def add_limit(parser: ArgumentParser, noun: str) -> None:
    parser.add_argument("--limit", type=count, default=50, help=f"Maximum number of {noun} (default: %(default)s).")


def add_json(*parsers: ArgumentParser) -> None:
    for parser in parsers:
        parser.add_argument("--json", action="store_true", dest="as_json", help="Print JSON.")


@contextmanager
def database_faults_as_sentences() -> Iterator[None]:
    try:
        yield
    except DATABASE_FAULTS as error:
        raise CommandError(describe_outage_to_operator(error)) from error


def flush_or_discard() -> None:
    """Write the rest, unless nobody reads it: Python would print an error about the broken pipe when it exits."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def count(text: str) -> int:
    """For argparse: a number of rows or days."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_LIMIT):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MAX_LIMIT:,}.")
    return int(text)


def _with_id_prefix(digits: str) -> QuerySet[Batch]:
    if not 4 <= len(digits) <= 32 or set(digits) - set(hexdigits):
        return Batch.objects.none()
    return Batch.objects.filter(pk__range=(UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user of a container may not have a name
        return ""

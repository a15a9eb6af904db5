"""What the commands that steer batches have in common."""

from __future__ import annotations

import getpass
import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from io import TextIOWrapper
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError

from batches.batch_manager import BatchManager
from batches.management.preflight import require_migrations
from batches.models import DATABASE_FAULTS, Batch, Channel
from batches.models.vocabulary import as_json
from batches.queue.refusals import Refusal
from batches.web.outages import describe_outage_to_operator

T = TypeVar("T")

MAX_SHOWN = 1_000_000


class DoorCommand(BaseCommand):
    """A command with actions, each a method `do_<action>`. A refusal exits 1 with its reason on stderr."""

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a name may have letters that this terminal has not
        require_migrations()
        try:
            with faults_of_the_database_in_a_sentence():
                getattr(self, f"do_{action}")(**options)
        except BrokenPipeError:
            pass  # `| head` has seen enough
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=130) from None
        finally:
            flush_or_discard()

    @cached_property
    def manager(self) -> BatchManager:
        return BatchManager(actor=_user(), channel=Channel.COMMAND)

    def accepted(self, answer: T | Refusal) -> T:
        """The answer of the manager. Raises CommandError where it is a refusal."""
        if isinstance(answer, Refusal):
            raise CommandError(answer.message)
        return answer

    def find(self, batch_id: str) -> Batch:
        """The batch with this id, or with the only id that begins so. Raises CommandError."""
        prefix = batch_id.strip().lower().replace("-", "")
        found = list(Batch.objects.filter(pk__startswith=_dashed(prefix))[:2]) if _is_prefix(prefix) else []
        if not found:
            raise CommandError(f"No batch has the ID {batch_id[:40]!r}. See them with: manage.py batch list")
        if len(found) > 1:
            raise CommandError(f"Several batches have an id that begins with {batch_id!r}: write more of it.")
        return found[0]

    def print_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.stdout.write(line)

    def print_json(self, value: Any) -> None:
        self.stdout.write(as_json(value, indent=2))

    def print_file(self, lines: Iterable[str]) -> None:
        """In UTF-8, whatever the terminal has: it is what the import reads."""
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        for line in lines:
            self.stdout.write(line, ending="")


@contextmanager
def faults_of_the_database_in_a_sentence() -> Iterator[None]:
    try:
        yield
    except DATABASE_FAULTS as error:
        raise CommandError(describe_outage_to_operator(error)) from error


def flush_or_discard() -> None:
    """Write what is left, unless nobody reads it: at its exit, Python would complain of the broken pipe."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def limit(text: str) -> int:
    """For argparse: how many are shown at most."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_SHOWN):
        raise ArgumentTypeError(f"{text!r} is no number from 1 to {MAX_SHOWN:,}.")
    return int(text)


def _is_prefix(text: str) -> bool:
    return 4 <= len(text) <= 32 and all(character in "0123456789abcdef" for character in text)


def _dashed(digits: str) -> str:
    """Digits of a UUID, or the first of them, with the dashes in their places."""
    groups = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return "-".join(group for group in groups if group)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return ""

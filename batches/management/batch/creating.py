"""`manage.py batch create`: from a list to a batch. `run` begins with it."""

import sys
from argparse import ArgumentParser
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandError

from batches.lists.formats import FORMATS, read_profiles
from batches.lists.imports import ImportResult, InvalidList
from batches.management.base import JSON, ActionCommand, add_now, add_values
from batches.models import Batch
from batches.models.lists import COUNT_FIRST
from batches.text import printable


class CreateActions(ActionCommand):
    def add_create_actions(self) -> None:
        description = "Create a batch from a list and queue it."
        create = self.add_action("create", CreateActions.create, description, list_parser(), JSON)
        when = create.add_mutually_exclusive_group()
        when.add_argument("--paused", action="store_true", help="Do not queue it yet.")
        add_now(when)

    def create(self, *, paused: bool, now: bool, as_json: bool, **options: Any) -> None:
        batch = self.create_from_list(not paused, as_json, **options)
        if batch is not None:
            self.conclude_new(batch, now, as_json)

    def create_from_list(self, queue: bool, quiet: bool, *, file: str | None, **options: Any) -> Batch | None:
        """The new batch, after a report on the list; None for a dry run."""
        result = read_list(file, options["format"], options["strict"])
        self.report_import(result, self.stderr if quiet else self.stdout)
        if options["dry_run"]:
            self.stderr.write("Dry run: nothing was saved.")
            return None
        self.stdout.flush()  # fails before anything is created
        name = options["name"] or (Path(file).stem if file not in (None, "-") else "Standard input")
        priority, checker = options["priority"], options["checker"]
        choices = {name: options[name] for name in ("keep", "count_first")}
        created = self.manager.create_batch(name, result.profiles, priority, checker, queue=queue, **choices)
        batch = self.require_accepted(created)
        if not quiet:
            place = f"queued at position {batch.position:,}" if queue else "paused"
            self.stdout.write(f"Created “{printable(batch.name)}”, {place}: {batch.pk}")
        return batch


def list_parser() -> ArgumentParser:
    """The arguments for the list and the batch."""
    parser = ArgumentParser(add_help=False)
    add_content(parser, nargs="?")
    parser.add_argument("--name", help="Name of the batch (default: the name of the file).")
    add_values(parser)
    parser.add_argument("--count-first", action="store_true", help=str(COUNT_FIRST))
    parser.add_argument("--keep", action="store_true", help="Keep the profiles as a list of that name.")
    return parser


def add_content(parser: ArgumentParser, **file: Any) -> None:
    """Add the file with a list, and how to read it."""
    parser.add_argument("file", **{"help": "Text, CSV, OPML or JSON; - for standard input.", **file})
    parser.add_argument("--format", choices=FORMATS, help="Needed only if it cannot be detected.")
    parser.add_argument("--strict", action="store_true", help="Save nothing if any line is rejected.")
    parser.add_argument("--dry-run", action="store_true", help="Only report; save nothing.")


def read_list(file: str | None, format: str | None, strict: bool) -> ImportResult:
    """The content of the list. Raises CommandError if it is not usable."""
    if file is None:
        raise CommandError("The list is missing. Name a file, or - for standard input.")
    name = "Standard input" if file == "-" else printable(file)
    try:
        with nullcontext(sys.stdin.buffer) if file == "-" else open_list(file) as source:
            return read_profiles(source, filename=file, format=format, strict=strict)
    except OSError as error:
        raise CommandError(f"Cannot read {name}: {error.strerror}") from error
    except InvalidList as error:
        raise CommandError(f"{name}: {error}") from error


def open_list(file: str) -> BinaryIO:
    try:
        return Path(file).open("rb")
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise CommandError(f"Cannot read {printable(file)}: this is not a valid file name.") from error

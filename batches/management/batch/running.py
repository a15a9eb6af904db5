"""`manage.py batch create` and `run`: from a list to a batch, and to its summary."""

import logging
import signal
import sys
from argparse import ArgumentParser
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from django.core.management.base import CommandError

from batches.conf import command_line
from batches.lists.formats import FORMATS, read_profiles
from batches.lists.imports import ImportResult, InvalidList
from batches.management.base import JSON, ActionCommand, add_now, add_values
from batches.management.batch.showing import details_as_dict, details_context
from batches.management.progress import ProgressDisplay
from batches.management.workers import Helpers, add_processes, process_count_for
from batches.models import Batch
from batches.models.lists import COUNT_FIRST
from batches.reports import queries
from batches.text import printable

Status = Batch.Status


class RunActions(ActionCommand):
    def add_run_actions(self) -> None:
        description = "Create a batch from a list, check it and print a summary."
        run = self.add_action("run", RunActions.run, description, list_parser(), JSON)
        run.add_argument("--resume", metavar="ID", help="Continue this batch instead of creating a new one.")
        add_processes(run)
        description = "Create a batch from a list and queue it."
        create = self.add_action("create", RunActions.create, description, list_parser(), JSON)
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

    def run(self, *, resume: str | None, as_json: bool, processes: int | None, **options: Any) -> None:
        batch = self.resume(resume, **options) if resume else self.create_from_list(True, as_json, **options)
        if batch is None:
            return
        logging.getLogger("batches").setLevel(logging.WARNING)  # log lines would break up the progress bar
        out = sys.stderr if as_json else sys.stdout
        stopped_by = work_until_finished(batch, out, process_count_for(batch, processes))
        self.conclude(batch, stopped_by, as_json)

    def resume(self, batch_id: str, *, file: str | None, dry_run: bool, keep: bool, **options: Any) -> Batch:
        """The batch, queued or running. A batch that is done is refused: it would be checked again from the start."""
        if file is not None or dry_run or keep:
            message = "--resume takes no list, no --dry-run and no --keep: the batch already has its profiles."
            raise CommandError(message)
        batch = self.find_batch(batch_id)
        if batch.status == Status.DONE:
            again = command_line(f"batch queue {batch.pk}")
            raise CommandError(f"“{printable(batch.name)}” is done. Check it again: {again}")
        if batch.status in {Status.PAUSED, Status.ERROR}:
            self.require_accepted(self.manager.queue_batch(batch.pk))
        return batch

    def conclude(self, batch: Batch, stopped_by: int | None, as_json: bool) -> None:
        """Print the summary.

        Exits with 0 for a batch that is done, 128 + the signal if we were stopped, otherwise 1.
        """
        if stopped_by is not None and self.manager.pause_batch(batch.pk):
            resume = command_line(f"batch run --resume {batch.pk}")
            message = f"Stopped. The batch is paused and its results are saved. Continue with: {resume}"
            raise CommandError(message, returncode=128 + stopped_by)
        fresh = Batch.objects.filter(pk=batch.pk).first()
        if fresh is None:
            raise CommandError("The batch has been deleted.")
        if as_json:
            self.print_json(details_as_dict(fresh))
        else:
            self.print_template("summary", details_context(fresh))
        if fresh.status == Status.ERROR:
            raise CommandError(f"The batch ended with an error: {printable(fresh.error)}")
        if fresh.status == Status.DONE and queries.has_lost_all(fresh):
            raise CommandError("Every profile failed to connect: is this machine online?")
        if fresh.status != Status.DONE:
            logs = command_line(f"batch logs {fresh.pk}")
            raise CommandError(f"The batch is {fresh.status}: someone else changed it. See: {logs}")


def list_parser() -> ArgumentParser:
    """The arguments for the list and the batch."""
    parser = ArgumentParser(add_help=False)
    parser.add_argument("file", nargs="?", help="Text, CSV, OPML or JSON; - for standard input.")
    parser.add_argument("--format", choices=FORMATS, help="Needed only if it cannot be detected.")
    parser.add_argument("--name", help="Name of the batch (default: the name of the file).")
    add_values(parser)
    parser.add_argument("--count-first", action="store_true", help=str(COUNT_FIRST))
    parser.add_argument("--keep", action="store_true", help="Keep the profiles as a list of that name.")
    parser.add_argument("--strict", action="store_true", help="Create nothing if any line is rejected.")
    parser.add_argument("--dry-run", action="store_true", help="Only read the list and report.")
    return parser


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


def work_until_finished(batch: Batch, out: TextIO, processes: int) -> int | None:
    """Work on the queue until this batch has ended. Returns the signal that stopped it, if any."""
    from batches.checking.worker import Worker  # its HTTP client takes a tenth of the time of the other actions

    unfinished = Batch.objects.filter(pk=batch.pk, status__in=[Status.QUEUED, Status.RUNNING])
    worker = Worker(finished=lambda: not unfinished.exists(), delivers=False, processes=processes)
    display = ProgressDisplay(batch.pk, out, lambda: "Stopping after the running checks. " if worker.stopped_by else "")
    try:
        with display, Helpers(batch, processes, lambda: worker.stopped_by):
            worker.work()
    except KeyboardInterrupt:  # just before or after the worker handles signals itself
        return signal.SIGINT
    return worker.stopped_by

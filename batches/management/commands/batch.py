import logging
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from django.core.management.base import CommandError, CommandParser
from django.db.models import QuerySet
from django.utils import timezone

from batches.checking.worker import Worker
from batches.conf import get_config
from batches.lists import exports
from batches.lists.imports import ImportResult, InvalidList
from batches.lists.reading import FORMATS, read_profiles
from batches.management.base import DoorCommand, limit
from batches.management.output import (
    batch_lines,
    batch_table,
    failure_lines,
    finding_line,
    log_lines,
    printable,
    story_lines,
)
from batches.management.progress import ProgressDisplay
from batches.models import Batch, StoryResult
from batches.models.vocabulary import batch_as_dict, log_as_dict, story_as_dict
from batches.reports import doctor, queries
from batches.text import pluralise

Status = Batch.Status
#: Rejected lines, stories and log entries that are shown before "and n more".
SHOWN = 10
STOPPING = "Stopping, running checks may end first. "


class Command(DoorCommand):
    help = "Make batches of profiles, look at them, and steer them."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        for name, description in (
            ("run", "Make a batch of a list, work until it is finished, and sum it up."),
            ("create", "Make a batch of a list, and queue it."),
        ):
            add_list_arguments(actions.add_parser(name, help=description, description=description))
        actions.choices["run"].add_argument(
            "--resume", metavar="ID", help="Go on with this paused batch instead of making a new one."
        )
        actions.choices["create"].add_argument("--paused", action="store_true", help="Do not queue it yet.")

        listing = actions.add_parser("list", help="The batches: the queue in its order, then the others.")
        listing.add_argument("--status", choices=Status.values)
        listing.add_argument("--limit", type=limit, default=50, help="How many (default: %(default)s).")
        show = actions.add_parser("show", help="One batch: counters, failures by reason, new stories.")
        logs = actions.add_parser("logs", help="What happened to a batch, newest first.")
        logs.add_argument("--limit", type=limit, default=50, help="How many entries (default: %(default)s).")
        for reader in (show, logs):
            reader.add_argument("id")
        for reader in (listing, show, logs, actions.choices["run"], actions.choices["create"]):
            reader.add_argument("--json", action="store_true", dest="as_json", help="Print JSON.")

        for name, description in (
            ("queue", "Queue it; a finished one is checked anew."),
            ("start", "Run it next, before all others."),
            ("pause", "Set it aside; nothing is lost."),
            ("retry", "Check its failed profiles again."),
            ("repeat", "Check the same profiles again in a new batch."),
            ("delete", "Delete it with its rows; the stories found stay known."),
        ):
            several = actions.add_parser(name, help=description, description=description)
            several.add_argument("ids", nargs="+", metavar="ID")
        actions.choices["delete"].add_argument("--yes", action="store_true", help="Do not ask.")
        move = actions.add_parser("move", help="Put a queued batch at a position of the queue.")
        move.add_argument("id")
        move.add_argument("position", type=int, help="1 is the head; beyond the end means the end.")
        priority = actions.add_parser("priority", help="Change a batch's priority; higher goes first.")
        priority.add_argument("id")
        priority.add_argument("priority", type=int)

        prune = actions.add_parser("prune", help="Delete batches that ended long ago.")
        prune.add_argument("--days", type=limit, default=90, help="Ended so many days ago (default: %(default)s).")
        prune.add_argument("--keep-errors", action="store_true", help="Only those that are done.")
        prune.add_argument("--dry-run", action="store_true", help="Only say which.")
        prune.add_argument("--yes", action="store_true", help="Do not ask.")
        doctor = actions.add_parser("doctor", help="Recount everything from the rows; exit 1 where something is wrong.")
        doctor.add_argument("--fix", action="store_true", help="Repair what can be derived, and write it to the log.")
        doctor.add_argument("--json", action="store_true", dest="as_json", help="Print JSON.")

        export = actions.add_parser("export", help="A batch's profiles and results as a file.")
        export.add_argument("id")
        export.add_argument("--format", choices=list(exports.EXPORTERS), default="csv")
        export.add_argument("--output", type=Path, metavar="FILE", help="Where to (default: standard output).")

    # Making

    def do_create(self, *, paused: bool, as_json: bool, **options: Any) -> None:
        batch = self.make_batch(queue=not paused, quiet=as_json, **options)
        if batch is not None and as_json:
            self.print_json(batch_as_dict(batch))

    def make_batch(
        self,
        *,
        file: str | None,
        name: str | None,
        priority: int,
        checker: str,
        queue: bool,
        quiet: bool,
        **options: Any,
    ) -> Batch | None:
        """The batch of the list, reported on; None for a dry run."""
        found = read_list(file, options["format"], options["strict"])
        self.report_import(found, sys.stderr if quiet else self.stdout)
        if options["dry_run"]:
            self.stderr.write("Dry run: nothing was stored.")
            return None
        name = name or (Path(file).stem if file not in (None, "-") else "Standard input")
        batch = self.accepted(self.manager.create_batch(name, found.profiles, priority, checker, queue=queue))
        if not quiet:
            place = f"queued at position {batch.position}" if queue else "paused"
            self.stdout.write(f"Batch “{printable(batch.name)}” made, {place}: {batch.pk}")
        return batch

    def report_import(self, found: ImportResult, out: Any) -> None:
        counts = (
            (len(found.profiles), "profile"),
            (found.duplicates, "duplicate"),
            (len(found.rejects), "rejected line"),
        )
        out.write(f"{', '.join(pluralise(*count) for count in counts)}\n")
        for reject in found.rejects[:SHOWN]:
            self.stderr.write(f"  line {reject.line}: {reject.reason} ({printable(reject.text)[:80]})")
        if len(found.rejects) > SHOWN:
            self.stderr.write(f"  and {len(found.rejects) - SHOWN:,} more")

    # The job in one line

    def do_run(self, *, resume: str | None, as_json: bool, **options: Any) -> None:
        batch = self.resume(resume, **options) if resume else self.make_batch(queue=True, quiet=as_json, **options)
        if batch is None:
            return
        logging.getLogger("batches").setLevel(logging.WARNING)  # its lines would cut through the progress bar
        stopped_by = work_until_finished(batch, sys.stderr if as_json else sys.stdout)
        self.conclude(batch, stopped_by, as_json)

    def resume(self, batch_id: str, *, file: str | None, dry_run: bool, **options: Any) -> Batch:
        """The batch, waiting or running. A done one would be checked anew from its beginning: that is `queue`."""
        if file is not None or dry_run:
            raise CommandError("Either a list or --resume: a batch that is resumed has its profiles already.")
        batch = self.find(batch_id)
        if batch.status == Status.DONE:
            raise CommandError(f"“{printable(batch.name)}” is done: there is nothing to resume.")
        if batch.status in {Status.PAUSED, Status.ERROR}:
            self.accepted(self.manager.queue_batch(batch.pk))
        return batch

    def conclude(self, batch: Batch, stopped_by: int | None, as_json: bool) -> None:
        """Sum up, and exit: 0 for a batch that is done, 128 + the signal's number where we were stopped, else 1."""
        if stopped_by is not None and self.manager.pause_batch(batch.pk):
            resume = f"manage.py batch run --resume {batch.pk}"
            message = f"Stopped. The batch is paused, nothing is lost. Go on: {resume}"
            raise CommandError(message, returncode=128 + stopped_by)
        fresh = Batch.objects.filter(pk=batch.pk).first()
        if fresh is None:
            raise CommandError("The batch was deleted meanwhile.")
        if as_json:
            self.print_json(self.details(fresh))
        else:
            self.print_summary(fresh)
        if fresh.status == Status.ERROR:
            raise CommandError(f"The batch ended in error: {printable(fresh.error)}")
        if fresh.status != Status.DONE:
            raise CommandError(
                f"The batch is {fresh.status}: somebody else changed it. See: manage.py batch logs {fresh.pk}"
            )

    def print_summary(self, batch: Batch) -> None:
        progress = batch.progress
        self.stdout.write(f"ok      {progress.successful:>7,}\nfailed  {progress.failed:>7,}")
        self.print_lines(failure_lines(queries.failure_reasons(batch)))
        self.stdout.write(f"new stories {progress.stories:,}")
        self.print_stories(batch)

    def print_stories(self, batch: Batch) -> None:
        self.print_lines(story_lines(found_this_time(batch)[:SHOWN]))
        if (more := batch.stories_found - SHOWN) > 0:
            self.stdout.write(f"  and {more:,} more: manage.py batch show --json {batch.pk}")

    # Looking

    def do_list(self, *, status: str | None, limit: int, as_json: bool, **options: Any) -> None:
        batches = Batch.objects.in_queue_order()
        if status:
            batches = batches.filter(status=status)
        shown = batches[:limit]
        if as_json:
            self.print_json([batch_as_dict(batch) for batch in shown])
        elif shown:
            self.print_lines(batch_table(shown))
        else:
            self.stdout.write("There is no batch. Make one with: manage.py batch create FILE")

    def do_show(self, *, id: str, as_json: bool, **options: Any) -> None:
        batch = self.find(id)
        if as_json:
            self.print_json(self.details(batch))
            return
        self.print_lines(batch_lines(batch))
        if reasons := queries.failure_reasons(batch):
            self.stdout.write("Failed")
            self.print_lines(failure_lines(reasons))
        if batch.stories_found:
            self.stdout.write("New stories")
            self.print_stories(batch)
        self.stdout.write("Log")
        self.print_lines(f"  {line}" for line in log_lines(queries.logs(batch)[:SHOWN]))

    def details(self, batch: Batch) -> dict[str, Any]:
        return batch_as_dict(batch) | {
            "failures": [{"reason": reason, "count": count} for reason, count in queries.failure_reasons(batch)],
            "stories": [story_as_dict(story) for story in found_this_time(batch).iterator(chunk_size=2000)],
        }

    def do_logs(self, *, id: str, limit: int, as_json: bool, **options: Any) -> None:
        entries = queries.logs(self.find(id))[:limit]
        if as_json:
            self.print_json([log_as_dict(entry) for entry in entries])
        else:
            self.print_lines(log_lines(entries))

    def do_export(self, *, id: str, format: str, output: Path | None, **options: Any) -> None:
        lines = exports.EXPORTERS[format](queries.all_rows(self.find(id)))
        if output is None:
            self.print_file(lines)
            return
        try:
            with output.open("w", encoding="utf-8", newline="") as file:
                file.writelines(lines)
        except OSError as error:
            raise CommandError(f"{output} cannot be written: {error.strerror}") from error

    # Steering

    def do_queue(self, **options: Any) -> None:
        self.for_each(self.manager.queue_batch, "queued", **options)

    def do_start(self, **options: Any) -> None:
        self.for_each(self.manager.start_batch, "started: the next worker that looks begins with it", **options)

    def do_pause(self, **options: Any) -> None:
        self.for_each(self.manager.pause_batch, "paused", **options)

    def do_retry(self, **options: Any) -> None:
        self.for_each(self.manager.retry_failed, "queued, for its failed profiles", **options)

    def do_repeat(self, **options: Any) -> None:
        self.for_each(self.manager.repeat_batch, "repeated in a new batch", **options)

    def do_delete(self, *, ids: list[str], yes: bool, **options: Any) -> None:
        if not yes and sys.stdin.isatty():
            names = ", ".join(f"“{printable(self.find(batch_id).name)}”" for batch_id in ids)
            if not confirmed(f"Delete {names} with all results?"):
                raise CommandError("Nothing was deleted.")
        self.for_each(self.manager.delete_batch, "deleted", ids=ids)

    def do_move(self, *, id: str, position: int, **options: Any) -> None:
        batch = self.find(id)
        self.accepted(self.manager.move_batch(batch.pk, position))
        batch.refresh_from_db()
        self.stdout.write(f"“{printable(batch.name)}” is at position {batch.position}")

    def do_priority(self, *, id: str, priority: int, **options: Any) -> None:
        batch = self.find(id)
        self.accepted(self.manager.set_priority(batch.pk, priority))
        self.stdout.write(f"“{printable(batch.name)}” has priority {priority}")

    # Keeping house

    def do_prune(self, *, days: int, keep_errors: bool, dry_run: bool, yes: bool, **options: Any) -> None:
        batches = queries.ended_before(timezone.now() - timedelta(days=days), with_errors=not keep_errors)
        if dry_run:
            self.print_lines(batch_table(batches))
            self.stderr.write(f"Dry run: nothing was deleted. Batches that would be: {len(batches):,}")
            return
        if (
            not yes
            and sys.stdin.isatty()
            and not confirmed(f"Delete {pluralise(len(batches), 'batch', 'batches')} with all results?")
        ):
            raise CommandError("Nothing was deleted.")
        deleted = sum(map(bool, self.manager.delete_batches([batch.pk for batch in batches])))
        self.stdout.write(f"Deleted: {deleted:,}")

    def do_doctor(self, *, fix: bool, as_json: bool, **options: Any) -> None:
        findings = doctor.diagnose()
        left = findings
        if fix and findings:
            doctor.repair(findings, self.manager)
            left = doctor.diagnose()
        if as_json:
            answer = {"findings": findings, "left": left}
            self.print_json({name: [doctor.as_dict(finding) for finding in found] for name, found in answer.items()})
        else:
            self.print_lines(diagnosis(findings, left, fix))
        if left:
            raise SystemExit(1)

    def for_each(self, call: Any, done: str, *, ids: Iterable[str], **options: Any) -> None:
        """Each on its own: one that is refused does not keep the others from what they can do."""
        refused = 0
        for batch_id in ids:
            try:
                batch = self.find(batch_id)
                answer = self.accepted(call(batch.pk))
            except CommandError as error:
                self.stderr.write(self.style.ERROR(str(error)))
                refused += 1
            else:
                new = f": {answer.pk}" if isinstance(answer, Batch) else ""
                self.stdout.write(f"“{printable(batch.name)}” {done}{new}")
        if refused:
            raise SystemExit(1)


def diagnosis(findings: list[doctor.Finding], left: list[doctor.Finding], fixed: bool) -> Iterator[str]:
    """What was found, and what is to be done about it."""
    if not findings:
        yield "Everything agrees."
        return
    yield from map(finding_line, findings)
    if fixed:
        yield f"Repaired: {len(findings) - len(left):,}. Left: {len(left):,}."
        yield from map(finding_line, left)
    elif any(finding.can_be_fixed for finding in findings):
        yield "Repair what can be derived with: manage.py batch doctor --fix"


def add_list_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", help="Text, CSV, OPML or JSON Lines; - for standard input.")
    parser.add_argument("--format", choices=FORMATS, help="Where neither name nor content tells.")
    parser.add_argument("--name", help="Name of the batch (default: that of the file).")
    parser.add_argument("--priority", type=int, default=0, help="Higher goes first (default: 0).")
    parser.add_argument("--checker", choices=list(get_config().all_checkers), default="feed")
    parser.add_argument("--strict", action="store_true", help="Make nothing if a single line is rejected.")
    parser.add_argument("--dry-run", action="store_true", help="Read and report only.")


def read_list(file: str | None, format: str | None, strict: bool) -> ImportResult:
    """What the list holds. Raises CommandError where it cannot be used."""
    if file is None:
        raise CommandError("Which list? Name a file, or - for standard input.")
    try:
        if file == "-":
            return read_profiles(sys.stdin.buffer, format=format, strict=strict)
        with open_list(file) as source:
            return read_profiles(source, filename=file, format=format, strict=strict)
    except OSError as error:
        raise CommandError(f"{printable(file)} cannot be read: {error.strerror}") from error
    except InvalidList as error:
        raise CommandError(f"{'Standard input' if file == '-' else printable(file)}: {error}") from error


def open_list(file: str) -> BinaryIO:
    try:
        return Path(file).open("rb")
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise CommandError(f"{printable(file)} cannot be read: no file can have this name.") from error


def work_until_finished(batch: Batch, out: TextIO) -> int | None:
    """Work on the queue until this batch has ended. Returns the number of the signal that stopped it, if one did."""
    worker = Worker(finished=lambda: not is_waiting(batch))
    try:
        with ProgressDisplay(batch.pk, out, lambda: STOPPING if worker.stopped_by else ""):
            worker.work()
    except KeyboardInterrupt:  # in the moments before and after the worker listens to it
        return signal.SIGINT
    return worker.stopped_by


def found_this_time(batch: Batch) -> QuerySet[StoryResult]:
    """Its new stories, newest find first; without those of an earlier time, where it was done and queued anew."""
    return queries.new_stories(batch)[: batch.stories_found]


def confirmed(question: str) -> bool:
    try:
        return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def is_waiting(batch: Batch) -> bool:
    """Whether the batch, as it is now, waits for its end."""
    return Batch.objects.filter(pk=batch.pk, status__in=[Status.QUEUED, Status.RUNNING]).exists()

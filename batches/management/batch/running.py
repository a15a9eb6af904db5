"""`manage.py batch run`: from a list to the summary of its batch."""

import logging
import signal
import sys
from typing import Any, TextIO

from django.core.management.base import CommandError

from batches.conf import command_line
from batches.management.base import JSON
from batches.management.batch.creating import CreateActions, list_parser
from batches.management.batch.showing import details_as_dict, details_context
from batches.management.progress import ProgressDisplay
from batches.management.workers import add_processes, helpers, process_count_for
from batches.models import Batch
from batches.reports import queries
from batches.text import printable

Status = Batch.Status


class RunActions(CreateActions):
    def add_run_actions(self) -> None:
        description = "Create a batch from a list, check it and print a summary."
        run = self.add_action("run", RunActions.run, description, list_parser(), JSON)
        run.add_argument("--resume", metavar="ID", help="Continue this batch instead of creating a new one.")
        add_processes(run)

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


def work_until_finished(batch: Batch, out: TextIO, processes: int) -> int | None:
    """Work on the queue until this batch has ended. Returns the signal that stopped it, if any."""
    from batches.checking.worker import Worker  # its HTTP client takes a tenth of the time of the other actions

    unfinished = Batch.objects.filter(pk=batch.pk, status__in=[Status.QUEUED, Status.RUNNING])
    worker = Worker(finished=lambda: not unfinished.exists(), delivers=False, processes=processes)
    display = ProgressDisplay(batch.pk, out, lambda: "Stopping after the running checks. " if worker.stopped_by else "")
    try:
        with display, helpers(batch, processes, lambda: worker.stopped_by):
            worker.work()
    except KeyboardInterrupt:  # just before or after the worker handles signals itself
        return signal.SIGINT
    return worker.stopped_by

from argparse import ArgumentTypeError
from datetime import datetime, time, timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from batches.conf import command_line
from batches.management.base import JSON, add_limit
from batches.management.output import hold_line, when
from batches.management.subscriptions import SubscriptionActions
from batches.management.tables import BATCHES, WORKERS, tabulate
from batches.models import Batch, Queue
from batches.reports.forecast import forecast_queue, queue_as_dict
from batches.reports.workers import list_workers
from batches.text import pluralise, printable


class Command(SubscriptionActions):
    help = "Show the queue, hold it, release it, or subscribe to it."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        show = self.add_action(
            "show", Command.show, "Show the running batch, the queued batches in order, and the workers.", JSON
        )
        add_limit(show, "queued batches")
        hold = self.add_action("hold", Command.hold, "Hold the queue: start no further batch.")
        hold.add_argument("--reason", default="", help="Shown on the queue page and in queue show.")
        text = "Release it at this time, such as 06:00 or 2026-01-31T06:00 (default: until somebody releases it)."
        hold.add_argument("--until", type=moment, metavar="TIME", help=text)
        text = "Stop the running batch too, until the queue is released (default: it keeps running)."
        hold.add_argument("--stop-running", action="store_true", help=text)
        self.add_action("release", Command.release, "Release the queue: let batches start again.")
        self.add_subscription_actions()
        description = (
            "Notify subscribers if the queue has been held for a long time or no worker runs, and send due messages. "
            "For cron: while no worker runs, nothing else does."
        )
        self.add_action("alert", Command.alert, description)

    def show(self, *, limit: int, as_json: bool, **options: Any) -> None:
        outlook = forecast_queue(turns=0)
        if as_json:
            self.print_json(queue_as_dict(outlook, limit))
            return
        if outlook.queue.held:
            self.stdout.write(hold_line(outlook.queue))
        batches = [outlook.running] if outlook.running else []
        batches += Batch.objects.queued().order_by("position")[:limit]
        self.print_rows(batches, BATCHES, "The queue is empty.", lambda: bool(outlook.running) + outlook.waiting)
        workers, total = list_workers(limit)
        if workers:
            self.print_lines(["", *tabulate(WORKERS, workers)])
        if (more := total - limit) > 0:
            self.stdout.write(f"and {pluralise(more, 'more worker')}; show all with --limit")

    def hold(self, *, reason: str, until: datetime | None, stop_running: bool, **options: Any) -> None:
        self.require_accepted(self.manager.hold_queue(reason, until, stop_running))
        held = f"The queue is held until {when(until)}." if until else "The queue is held."
        stopped = Queue.objects.select_related("stopped").get().stopped
        running = f"“{printable(stopped.name)}” is stopped until then" if stopped else "The running batch continues"
        self.stdout.write(f"{held} {running}; release it with: {command_line('queue release')}")

    def alert(self, **options: Any) -> None:
        from batches.checking.worker import Worker  # its HTTP client takes a tenth of the time of the other actions

        Worker().tend()
        seen_at = forecast_queue().worker_seen_at
        self.stdout.write(f"The last heartbeat of a worker: {when(seen_at)}" if seen_at else "No worker has run yet.")

    def release(self, **options: Any) -> None:
        self.manager.release_queue()
        self.stdout.write("The queue is released.")


def moment(text: str) -> datetime:
    """For argparse: a time in the time zone of the server; without a date, the next one of that time of day."""
    try:
        if len(text) <= 5:
            now = timezone.localtime()
            parsed = datetime.combine(now.date(), time.fromisoformat(text))
            return timezone.make_aware(parsed + timedelta(days=parsed <= now.replace(tzinfo=None)))
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a time such as 06:00 or 2026-01-31T06:00.") from error
    return parsed if timezone.is_aware(parsed) else timezone.make_aware(parsed)

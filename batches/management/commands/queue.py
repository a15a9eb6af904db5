from typing import Any

from django.core.management.base import CommandParser

from batches.management.base import JSON, ActionCommand, add_limit
from batches.management.output import batch_table, hold_line
from batches.models import Batch
from batches.reports.outlook import forecast_queue, queue_as_dict


class Command(ActionCommand):
    help = "Show the queue, hold it, or release it."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        show = self.add_action("show", Command.show, "Show the running batch and the queued batches in order.", JSON)
        add_limit(show, "queued batches")
        hold = self.add_action("hold", Command.hold, "Start no other batch; the running one continues.")
        hold.add_argument("--reason", default="", help="Shown to everybody who looks at the queue.")
        self.add_action("release", Command.release, "Let batches start again.")

    def show(self, *, limit: int, as_json: bool, **options: Any) -> None:
        outlook = forecast_queue()
        if as_json:
            self.print_json(queue_as_dict(outlook, limit))
            return
        if outlook.queue.held:
            self.stdout.write(hold_line(outlook.queue))
        batches = [outlook.running] if outlook.running else []
        batches += Batch.objects.queued().order_by("position")[:limit]
        if not batches:
            self.stdout.write("The queue is empty.")
            return
        self.print_lines(batch_table(batches))
        if (more := outlook.waiting - limit) > 0:
            self.stdout.write(f"and {more:,} more; show them with --limit")

    def hold(self, *, reason: str, **options: Any) -> None:
        self.manager.hold_queue(reason)
        self.stdout.write("The queue is held. The running batch continues; release it with: manage.py queue release")

    def release(self, **options: Any) -> None:
        self.manager.release_queue()
        self.stdout.write("The queue is released.")

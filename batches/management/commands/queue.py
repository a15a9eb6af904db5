from typing import Any

from django.core.management.base import CommandParser

from batches.management.base import DoorCommand, limit
from batches.management.output import batch_table, hold_line
from batches.models import Batch
from batches.reports.outlook import forecast_queue, queue_as_dict


class Command(DoorCommand):
    help = "Show the queue, hold it, or release it."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="show|hold|release")
        show = actions.add_parser("show", help="The running batch and the waiting ones in their order.")
        show.add_argument("--limit", type=limit, default=50, help="How many waiting batches (default: %(default)s).")
        show.add_argument("--json", action="store_true", dest="as_json", help="Print JSON.")
        hold = actions.add_parser("hold", help="Promote and start nothing until the release; the running one goes on.")
        hold.add_argument("--reason", default="", help="Why, for all who look at the queue.")
        actions.add_parser("release", help="Let batches be promoted and started again.")

    def do_show(self, *, limit: int, as_json: bool, **options: Any) -> None:
        outlook = forecast_queue()
        if as_json:
            self.print_json(queue_as_dict(outlook, limit))
            return
        if outlook.queue.held:
            self.stdout.write(hold_line(outlook.queue))
        batches = [outlook.running] if outlook.running else []
        batches += Batch.objects.queued().order_by("position")[:limit]
        if not batches:
            self.stdout.write("Nothing runs, nothing waits.")
            return
        self.print_lines(batch_table(batches))
        if outlook.waiting > limit:
            self.stdout.write(f"and {outlook.waiting - limit:,} more; show them with --limit")

    def do_hold(self, *, reason: str, **options: Any) -> None:
        self.manager.hold_queue(reason)
        self.stdout.write("The queue is held. The running batch goes on; nothing else starts until `queue release`.")

    def do_release(self, **options: Any) -> None:
        self.manager.release_queue()
        self.stdout.write("The queue is released.")

"""`manage.py batch list`, `show`, `logs` and `export`."""

from pathlib import Path
from typing import Any

from batches.conf import command_line
from batches.lists import exports
from batches.management.base import ID, JSON, ActionCommand, add_export_options, add_limit
from batches.management.output import MAX_SHOWN
from batches.management.tables import BATCHES
from batches.models import Batch, BatchProfile
from batches.models.public_fields import LOG, STORY, as_dict, batch_as_dict
from batches.reports import queries, streams


class ShowActions(ActionCommand):
    def add_show_actions(self) -> None:
        description = "List the queue in order, then the other batches."
        listing = self.add_action("list", ShowActions.list_batches, description, JSON)
        listing.add_argument("--status", choices=Batch.Status.values)
        add_limit(listing, "batches")
        description = "Show a batch: counters, failures, new stories, log."
        show = self.add_action("show", ShowActions.show_batch, description, ID, JSON)
        show.add_argument("--baseline", action="store_true", help="Also show stories found at the first read.")
        logs = self.add_action("logs", ShowActions.show_logs, "Show the history of a batch, newest first.", ID, JSON)
        add_limit(logs, "entries")
        export = self.add_action("export", ShowActions.export, "Export the profiles and results of a batch.", ID)
        add_export_options(export, exports.EXPORTERS)

    def list_batches(self, *, status: str | None, limit: int, as_json: bool, **options: Any) -> None:
        batches = Batch.objects.in_queue_order()
        if status:
            batches = batches.filter(status=status)
        if as_json:
            self.print_json([batch_as_dict(batch) for batch in batches[:limit]])
        else:
            nothing = f"No batches. Create one: {command_line('batch create FILE')}"
            self.print_rows(batches[:limit], BATCHES, nothing, batches.count)

    def show_batch(self, *, id: str, as_json: bool, baseline: bool, **options: Any) -> None:
        batch = self.find_batch(id)
        if as_json:
            self.print_json(details_as_dict(batch, baseline))
        else:
            self.print_template("batch", details_context(batch, baseline))

    def show_logs(self, *, id: str, limit: int, as_json: bool, **options: Any) -> None:
        entries = self.find_batch(id).logs.newest_first()[:limit]
        if as_json:
            self.print_json([as_dict(entry, LOG) for entry in entries])
        else:
            self.print_template("log", {"entries": entries})

    def export(self, *, id: str, format: str, output: Path | None, **options: Any) -> None:
        rows = BatchProfile.objects.of_batch(self.find_batch(id))
        self.write_export(exports.EXPORTERS[format](streams.stream_rows(rows)), output)


def details_as_dict(batch: Batch, baseline: bool = False) -> dict[str, Any]:
    stories = batch.stories if baseline else batch.new_stories
    return batch_as_dict(batch) | {
        "failures": [{"reason": reason, "count": count} for reason, count in queries.count_failure_reasons(batch)],
        "stories": [as_dict(story, STORY) for story in stories.iterator(chunk_size=2000)],
    }


def details_context(batch: Batch, baseline: bool = False) -> dict[str, Any]:
    reasons = queries.count_failure_reasons(batch)
    stories = batch.stories if baseline else batch.new_stories
    return {
        "batch": batch,
        "reasons": reasons[:MAX_SHOWN],
        "more_reasons": len(reasons) - MAX_SHOWN,
        "stories": stories[:MAX_SHOWN],
        "more_stories": stories.count() - MAX_SHOWN,
        "baseline": baseline,
        "entries": batch.logs.newest_first()[:MAX_SHOWN],
    }

"""Batches as lines at a terminal."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.utils import timezone

from batches.models import Batch, BatchLog, Queue, StoryResult
from batches.reports.doctor import Finding

#: Reasons, stories, log entries and rejected lines of one batch.
MAX_SHOWN = 10


def batch_table(batches: Iterable[Batch]) -> list[str]:
    rows = [
        (
            "-" if batch.position is None else str(batch.position),
            batch.status,
            _cut(batch.name, 40),
            str(batch.priority),
            f"{batch.completed_profiles:,}/{batch.total_profiles:,}",
            f"{batch.successful_checks:,}",
            f"{batch.failed_checks:,}",
            f"{batch.stories_found:,}",
            str(batch.pk),
        )
        for batch in batches
    ]
    return table(("pos", "status", "name", "prio", "checked", "ok", "failed", "stories", "id"), rows)


def log_lines(entries: Iterable[BatchLog]) -> list[str]:
    return [
        f"{when(entry.created_at)}  {entry.action:<18} {_change(entry):<22} "
        f"{printable(entry.actor) or '-'} ({entry.channel}){f': {printable(entry.message)}' if entry.message else ''}"
        for entry in entries
    ]


def batch_lines(batch: Batch) -> list[str]:
    values = {
        "status": f"{batch.status}{f', position {batch.position}' if batch.position else ''}",
        "priority": f"{batch.priority}",
        "checker": batch.checker,
        "checked": f"{batch.completed_profiles:,} of {batch.total_profiles:,} ({batch.percent} %)",
        "ok": f"{batch.successful_checks:,}",
        "failed": f"{batch.failed_checks:,}",
        "stories": f"{batch.stories_found:,} new",
        "created": when(batch.created_at),
        "started": when(batch.started_at),
        "completed": when(batch.completed_at),
        "rate": f"{batch.rate:,.1f} profiles/s" if batch.rate else "",
        "repeats": f"{batch.previous.pk}" if batch.previous else "",
        "error": printable(batch.error),
    }
    lines = [f"  {label:<10} {value}" for label, value in values.items() if value]
    return [f"{printable(batch.name)}  ({batch.pk})", *lines]


def failure_lines(reasons: Sequence[tuple[str, int]]) -> list[str]:
    lines = [f"  {count:>7,}  {_cut(reason, 90)}" for reason, count in reasons[:MAX_SHOWN]]
    if (more := len(reasons) - MAX_SHOWN) > 0:
        lines.append(f"           and {more:,} more reasons")
    return lines


def story_lines(stories: Iterable[StoryResult]) -> list[str]:
    return [
        f"  {_cut(story.title or story.url or story.story_id, 70)}  ({_cut(str(story.profile), 40)})"
        for story in stories
    ]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]


def when(moment: datetime | None) -> str:
    return f"{timezone.localtime(moment):%Y-%m-%d %H:%M:%S}" if moment else "-"


def printable(text: str) -> str:
    """A text from outside, without control sequences of the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def finding_line(finding: Finding) -> str:
    if finding.batch is None:
        return finding.message
    return f"“{printable(finding.name)}” ({finding.batch}): {finding.message}"


def hold_line(queue: Queue) -> str:
    reason = f": {printable(queue.hold_reason)}" if queue.hold_reason else ""
    return f"Queue held by {printable(queue.held_by) or 'someone'} since {when(queue.held_at)}{reason}"


def _change(entry: BatchLog) -> str:
    before, after = (
        f"{status}{f' {position}' if position else ''}"
        for status, position in ((entry.from_status, entry.from_position), (entry.to_status, entry.to_position))
    )
    return f"{before} → {after}" if before and after else before or after


def _cut(text: str, width: int) -> str:
    text = printable(text)
    return text if len(text) <= width else f"{text[: width - 1]}…"

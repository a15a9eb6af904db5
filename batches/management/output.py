"""Texts for a terminal. Some functions are filters for the templates in `templates/batches/terminal`."""

from datetime import datetime

from django.template import Library
from django.utils import timezone

from batches.conf import command_line
from batches.models import BatchLog, Queue
from batches.text import printable

#: Reasons, stories, log entries and rejected lines of one batch that a command shows.
MAX_SHOWN = 10

register = Library()


register.filter(command_line)
register.filter(printable)


@register.filter
def when(moment: datetime | None) -> str:
    """A local time with its zone, which differs in summer: "2026-11-29 06:00:00 CET"."""
    return f"{timezone.localtime(moment):%Y-%m-%d %H:%M:%S %Z}" if moment else "-"


@register.filter
def shorten(value: object, width: int) -> str:
    text = printable(str(value))
    return text if len(text) <= width else f"{text[: width - 1]}…"


@register.filter
def change(entry: BatchLog) -> str:
    before, after = (
        f"{status}{f' {position:,}' if position else ''}"
        for status, position in ((entry.from_status, entry.from_position), (entry.to_status, entry.to_position))
    )
    return f"{before} → {after}" if before and after else before or after


def hold_line(queue: Queue) -> str:
    reason = f": {printable(queue.why_held)}" if queue.why_held else ""
    until = f" until {when(queue.held_until)}" if queue.held_until else ""
    return f"Queue held by {printable(queue.held_by) or 'someone'} since {when(queue.held_at)}{until}{reason}"

"""Batches as lines at a terminal, and the filters of the templates in `templates/batches/terminal`."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.template import Library
from django.utils import timezone

from batches.conf import command_line
from batches.models import Batch, BatchLog, ListFeed, Profile, ProfileList, Queue, Redirect
from batches.reports.fleet import WorkerFigures
from batches.reports.history import Check
from batches.reports.hosts import HostFigures

#: Reasons, stories, log entries and rejected lines of one batch.
MAX_SHOWN = 10

register = Library()


def batch_table(batches: Iterable[Batch]) -> list[str]:
    rows = [
        (
            "-" if batch.position is None else f"{batch.position:,}",
            batch.status,
            shorten(batch.name, 40),
            str(batch.priority),
            f"{batch.completed_profiles:,}/{batch.total_profiles:,}",
            f"{batch.successful_checks:,}",
            f"{batch.failed_checks:,}",
            f"{batch.skipped_profiles:,}",
            f"{batch.stories_found:,}",
            str(batch.pk),
        )
        for batch in batches
    ]
    return table(("pos", "status", "name", "prio", "checked", "ok", "failed", "skipped", "stories", "id"), rows)


def list_table(lists: Iterable[ProfileList]) -> list[str]:
    rows = [
        (
            shorten(found.name, 40),
            f"{found.total_profiles:,}",
            str(found.priority),
            found.checker,
            when(found.next_run_at),
            str(found.pk),
        )
        for found in lists
    ]
    return table(("name", "profiles", "prio", "checker", "next run", "id"), rows)


def feed_table(feeds: Iterable[ListFeed]) -> list[str]:
    rows = [
        (
            shorten(feed.list.name, 40),
            shorten(feed.name, 40),
            f"{feed.begins_with}…",
            when(feed.created_at),
            when(feed.last_used_at),
        )
        for feed in feeds
    ]
    return table(("list", "feed", "token", "created", "last used"), rows)


def redirect_table(redirects: Iterable[Redirect]) -> list[str]:
    rows = [
        (
            str(found.pk),
            printable(found.profile.url),
            printable(found.url),
            "merges" if getattr(found, "merges", False) else "moves",
            str(found.checks),
            when(found.first_seen_at),
        )
        for found in redirects
    ]
    return table(("id", "profile", "new address", "then", "checks", "first seen"), rows)


def host_table(hosts: Iterable[HostFigures]) -> list[str]:
    rows = [
        (
            printable(found.host),
            f"{found.profiles:,}{'+' if found.has_more else ''}",
            f"{found.failing:,}",
            "-" if found.failing_percent is None else f"{found.failing_percent:.1f} %",
            "-" if found.median_seconds is None else f"{found.median_seconds:.2f} s",
            when(found.paused_until),
            shorten(found.last_error, 60),
        )
        for found in hosts
    ]
    return table(("host", "profiles", "failing", "rate", "median", "paused until", "last error"), rows)


def resting_table(profiles: Iterable[Profile]) -> list[str]:
    rows = [
        (
            str(profile.pk),
            printable(profile.url),
            str(profile.failures),
            when(profile.failing_since),
            when(profile.rests_until),
            shorten(profile.last_error, 60),
        )
        for profile in profiles
    ]
    return table(("id", "profile", "failures", "failing since", "next try", "last error"), rows)


def history_table(checks: Iterable[Check]) -> list[str]:
    rows = [
        (
            when(check.checked_at),
            f"{check.status}{' (repeated)' if check.is_earlier else ''}",
            shorten(check.batch.name, 40),
            "" if check.http_status is None else str(check.http_status),
            str(len(check.stories) or ""),
            shorten(check.error, 60),
        )
        for check in checks
    ]
    return table(("checked", "outcome", "batch", "HTTP", "stories", "error"), rows)


def worker_table(workers: Iterable[WorkerFigures]) -> list[str]:
    rows = [
        (
            printable(worker.name),
            printable(worker.version),
            f"{'' if worker.alive else 'no heartbeat since '}{when(worker.seen_at)}",
            shorten(worker.batch or ("idle" if worker.alive else ""), 40),
            str(worker.partitions or ""),
            "" if worker.rate is None else f"{worker.rate:.1f}/s",
        )
        for worker in workers
    ]
    return table(("worker", "version", "heartbeat", "works on", "parts", "speed"), rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]


register.filter(command_line)


@register.filter
def when(moment: datetime | None) -> str:
    """A local time with its zone, which differs in summer: "2026-11-29 06:00:00 CET"."""
    return f"{timezone.localtime(moment):%Y-%m-%d %H:%M:%S %Z}" if moment else "-"


@register.filter
def printable(text: str) -> str:
    """A text from outside, without control sequences of the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


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

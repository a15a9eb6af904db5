"""Tables for the terminal: the columns of each kind of row, and the format of cells."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from batches.management.output import shorten, when
from batches.text import printable

Columns = Mapping[str, Callable[[Any], str]]

BATCHES: Columns = {
    "pos": lambda batch: "-" if batch.position is None else f"{batch.position:,}",
    "status": lambda batch: batch.status,
    "name": lambda batch: shorten(batch.name, 40),
    "prio": lambda batch: str(batch.priority),
    "checked": lambda batch: f"{batch.completed_profiles:,}/{batch.total_profiles:,}",
    "ok": lambda batch: f"{batch.successful_checks:,}",
    "failed": lambda batch: f"{batch.failed_checks:,}",
    "skipped": lambda batch: f"{batch.skipped_profiles:,}",
    "stories": lambda batch: f"{batch.stories_found:,}",
    "id": lambda batch: str(batch.pk),
}

LISTS: Columns = {
    "name": lambda found: shorten(found.name, 40),
    "profiles": lambda found: f"{found.total_profiles:,}",
    "prio": lambda found: str(found.priority),
    "checker": lambda found: found.checker,
    "next run": lambda found: when(found.next_run_at),
    "id": lambda found: str(found.pk),
}

FEEDS: Columns = {
    "list": lambda feed: shorten(feed.list.name, 40),
    "feed": lambda feed: shorten(feed.name, 40),
    "token": lambda feed: f"{feed.begins_with}…",
    "created": lambda feed: when(feed.created_at),
    "last used": lambda feed: when(feed.last_used_at),
}

SUBSCRIPTIONS: Columns = {
    "channel": lambda subscription: subscription.channel,
    "address": lambda subscription: shorten(subscription.shown_address, 60),
    "topics": lambda subscription: ", ".join(subscription.topics),
    "when": lambda subscription: subscription.when,
    "active": lambda subscription: "yes" if subscription.is_active else "no",
    "id": lambda subscription: str(subscription.pk),
}

REDIRECTS: Columns = {
    "id": lambda found: str(found.pk),
    "profile": lambda found: printable(found.profile.url),
    "new address": lambda found: printable(found.url),
    "then": lambda found: "merges" if getattr(found, "merges", False) else "moves",
    "checks": lambda found: str(found.checks),
    "first seen": lambda found: when(found.first_seen_at),
}

RESTING: Columns = {
    "id": lambda profile: str(profile.pk),
    "profile": lambda profile: printable(profile.url),
    "failures": lambda profile: str(profile.failures),
    "failing since": lambda profile: when(profile.failing_since),
    "next try": lambda profile: when(profile.rests_until),
    "last error": lambda profile: shorten(profile.last_error, 60),
}

CHECKS: Columns = {
    "checked": lambda check: when(check.checked_at),
    "outcome": lambda check: f"{check.status}{' (repeated)' if check.is_earlier else ''}",
    "batch": lambda check: shorten(check.batch.name, 40),
    "HTTP": lambda check: "" if check.http_status is None else str(check.http_status),
    "stories": lambda check: str(len(check.stories) or ""),
    "error": lambda check: shorten(check.error, 60),
}

WORKERS: Columns = {
    "worker": lambda worker: printable(worker.name),
    "version": lambda worker: printable(worker.version),
    "heartbeat": lambda worker: f"{'' if worker.alive else 'no heartbeat since '}{when(worker.seen_at)}",
    "works on": lambda worker: shorten(worker.batch or ("idle" if worker.alive else ""), 40),
    "parts": lambda worker: str(worker.partitions or ""),
    "speed": lambda worker: "" if worker.rate is None else f"{worker.rate:.1f}/s",
}

TOKENS: Columns = {
    "token": lambda token: token["token"],
    "name": lambda token: shorten(token["name"], 40),
    "scope": lambda token: token["scope"],
    "created": lambda token: when(token["created_at"]),
    "expires": lambda token: when(token["expires_at"]),
    "last used": lambda token: when(token["last_used_at"]),
    "active": lambda token: "yes" if token["is_active"] else "no",
    "user": lambda token: printable(token["user"]),
}


def tabulate(columns: Columns, things: Iterable[Any]) -> list[str]:
    """The lines of a table with its header."""
    rows = [[*columns], *([make_cell(thing) for make_cell in columns.values()] for thing in things)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

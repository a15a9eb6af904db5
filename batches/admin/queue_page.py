"""What the queue page shows: its sections, their rows, and what a move would do, as texts ready for the templates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.core.paginator import Page, Paginator
from django.db.models import CharField, DateTimeField, F, OuterRef, QuerySet, Subquery
from django.http import QueryDict
from django.utils.text import Truncator
from django.utils.timezone import localdate, localtime

from batches.limits import MAX_NAME
from batches.models import Action, Batch, BatchLog, Channel
from batches.queue.refusals import Refused
from batches.queue.transitions import find_batch
from batches.reports import queries
from batches.reports.outlook import Move, Outlook, Turn, forecast_queue
from batches.text import clean_text, format_duration, pluralise

from . import display
from .actions import buttons

Status = Batch.Status

SHOWN_WAITING = 100
#: Of each other section; its heading links to the list of all.
SHOWN = 20
#: Names of those that a move delays.
SHOWN_NAMES = 3
SHOWN_TEXT = 300
SHOWN_REASON = 80

#: The sections below the queue.
SETTLED = {Status.ERROR: "In error", Status.PAUSED: "Paused", Status.DONE: "Done today"}
#: The buttons above, and those below.
QUEUE_ACTIONS = (Action.START_BATCH, Action.PAUSE_BATCH)
SETTLED_ACTIONS = (Action.QUEUE_BATCH, Action.RETRY_FAILED, Action.REPEAT_BATCH)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks to be shown: a part of the batches, a page of the waiting ones, the effect of a move."""

    search: str
    page: str
    move: str
    to: int | None
    version: int | None

    @classmethod
    def from_query(cls, query: QueryDict) -> Asked:
        return cls(
            search=clean_text(query.get("q", ""), MAX_NAME).strip(),
            page=query.get("p", ""),
            move=query.get("move", ""),
            to=_number(query.get("to", "")),
            version=_number(query.get("version", "")),
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One batch, what is said of it, and the buttons that it has."""

    batch: Batch
    facts: list[str]
    buttons: list[tuple[str, str]]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    status: str
    title: str
    rows: list[Row]
    count: int

    @property
    def left_out(self) -> int:
        return self.count - len(self.rows)


@dataclass(frozen=True, slots=True)
class Preview:
    """A move that waits to be confirmed. Without a `move` there is nothing to confirm, for the reason in `text`."""

    batch: Batch | None
    text: str
    move: Move | None = None
    others: str = ""


def shown(asked: Asked, user: User | AnonymousUser) -> dict[str, Any]:
    """The context of the page and of its live part."""
    outlook = forecast_queue()
    can_operate = user.has_perm("batches.operate_batch")
    can_delete = user.has_perm("batches.delete_batch")
    waiting = waiting_page(asked)
    sections = [section(status, asked.search) for status in SETTLED]
    return {
        "asked": asked,
        "outlook": outlook,
        "version": outlook.queue.version,
        "can_operate": can_operate,
        "can_select": can_operate or can_delete,
        "can_delete": can_delete,
        "summary": summary(outlook, sections),
        "hold": hold(outlook),
        "no_worker": "" if outlook.worker_is_alive else no_worker(outlook),
        "running": running_row(outlook),
        "run_facts": list(run_facts(outlook)),
        "page": waiting,
        "waiting": [waiting_row(batch, outlook) for batch in waiting],
        "waiting_total": waiting_total(outlook),
        "blockers": "; ".join(blockers(outlook)),
        "last_move": last_move(),
        "preview": preview(asked, outlook) if can_operate and asked.move else None,
        "sections": sections,
    }


# What is in which section


def batches_of(status: str, search: str = "") -> QuerySet[Batch]:
    """The batches of a section whose name has the text that is searched for."""
    batches = Batch.objects.queued() if status == Status.QUEUED else Batch.objects.filter(status=status)
    if status == Status.DONE:
        midnight = localtime().replace(hour=0, minute=0, second=0, microsecond=0)
        batches = batches.filter(completed_at__gte=midnight)
    return batches.filter(name__icontains=search) if search else batches


def waiting_page(asked: Asked) -> Page[Batch]:
    waiting = batches_of(Status.QUEUED, asked.search).order_by("position")
    return Paginator(waiting, SHOWN_WAITING).get_page(asked.page)


def section(status: str, search: str) -> Section:
    batches = batches_of(status, search)
    newest = F("completed_at" if status == Status.DONE else "created_at").desc(nulls_last=True)
    latest = with_latest_change(batches).order_by(newest)[:SHOWN]
    return Section(status, SETTLED[Status(status)], [settled_row(batch) for batch in latest], batches.count())


def with_latest_change(batches: QuerySet[Batch]) -> QuerySet[Any]:
    """With `changed_by` and `changed_at`: who brought each batch into the status that it has, and when."""
    into = BatchLog.objects.filter(batch=OuterRef("pk"), to_status=OuterRef("status"))
    latest = into.exclude(from_status=OuterRef("status")).order_by("-pk")
    return batches.annotate(
        changed_by=Subquery(latest.values("actor")[:1], output_field=CharField()),
        changed_at=Subquery(latest.values("created_at")[:1], output_field=DateTimeField()),
    )


# The rows


def running_row(outlook: Outlook) -> Row | None:
    batch = outlook.running
    return None if batch is None else Row(batch, [], buttons(batch, QUEUE_ACTIONS))


def run_facts(outlook: Outlook) -> Iterator[tuple[str, str]]:
    """Name and value of what is known of the run."""
    batch = outlook.running
    if batch is None:
        return
    progress = batch.progress
    yield "Checked", display.progress_bar(batch)
    yield "Rate", display.rate(progress.rate) if progress.rate else display.NOTHING
    yield "Left", format_duration(progress.seconds_left) if progress.seconds_left else display.NOTHING
    yield "Ok", display.number(batch.successful_checks)
    yield "Failed", display.number(batch.failed_checks)
    yield "New stories", display.number(batch.stories_found)
    yield "Started", started(batch)
    yield "Worker", worker(outlook)


def started(batch: Batch) -> str:
    began = queries.logs(batch).filter(to_status=Status.RUNNING).exclude(from_status=Status.RUNNING).first()
    when = clock(batch.started_at)
    if began is None or not began.actor:
        return when
    return f"{when} by {'worker ' if began.channel == Channel.WORKER else ''}{began.actor}"


def worker(outlook: Outlook) -> str:
    lease_at = outlook.running.lease_at if outlook.running else None
    if lease_at is None:
        return "none has taken it up yet"
    return "alive" if outlook.run_is_alive else f"silent since {clock(lease_at, seconds=True)}"


def waiting_row(batch: Batch, outlook: Outlook) -> Row:
    facts = [f"priority {batch.priority}", pluralise(batch.total_profiles, "profile")]
    if batch.completed_profiles:
        facts.append(f"{display.number(batch.completed_profiles)} checked already")
    facts.append(turn_text(outlook.turn(batch.position or 0)))
    return Row(batch, list(filter(None, facts)), buttons(batch, QUEUE_ACTIONS))


def turn_text(turn: Turn) -> str:
    if turn.start and turn.end:
        return f"starts about {clock(turn.start)}, ends about {clock(turn.end)}"
    return f"takes {roughly(turn.seconds)}" if turn.seconds is not None else ""


def settled_row(batch: Any) -> Row:
    facts = [f"by {batch.changed_by}" if batch.changed_by else "", clock(batch.changed_at)]
    facts += [
        f"{display.number(batch.completed_profiles)} of {pluralise(batch.total_profiles, 'profile')} checked",
        f"{display.number(batch.successful_checks)} ok",
        f"{display.number(batch.failed_checks)} failed",
        pluralise(batch.stories_found, "new story", "new stories"),
    ]
    error = Truncator(batch.error).chars(SHOWN_TEXT) if batch.status == Status.ERROR else ""
    return Row(batch, list(filter(None, facts)), buttons(batch, SETTLED_ACTIONS), error)


# What is said of the queue


def summary(outlook: Outlook, sections: list[Section]) -> str:
    """Read out whenever it changes, which is when a batch came, went, or changed its status."""
    running = f"“{outlook.running}” is running" if outlook.running else "Nothing is running"
    others = ", ".join(f"{section.count:,} {section.title.lower()}" for section in sections)
    return f"{running}. {outlook.waiting:,} waiting, {others}."


def waiting_total(outlook: Outlook) -> str:
    if not outlook.waiting:
        return "no batch waits"
    batches = pluralise(outlook.waiting, "batch", "batches")
    done = f", all done about {clock(outlook.all_done)}" if outlook.all_done else ""
    return f"{batches}, {pluralise(outlook.waiting_profiles, 'profile')}{done}"


def hold(outlook: Outlook) -> str:
    queue = outlook.queue
    if not queue.held:
        return ""
    by = f" by {queue.held_by}" if queue.held_by else ""
    return f"held{by} since {clock(queue.held_at)}{f': {queue.hold_reason}' if queue.hold_reason else ''}"


def no_worker(outlook: Outlook) -> str:
    seen_at = outlook.worker_seen_at
    return f"no worker has been seen {f'since {clock(seen_at, seconds=True)}' if seen_at else 'yet'}"


def blockers(outlook: Outlook) -> Iterator[str]:
    """Why no batch is promoted now; nothing where the first one is about to be."""
    if outlook.queue.held:
        yield Truncator(f"the queue is {hold(outlook)}").chars(SHOWN_REASON)
    if outlook.running:
        yield f"another batch runs, “{Truncator(outlook.running).chars(SHOWN_REASON // 2)}”"
    if not outlook.worker_is_alive:
        yield no_worker(outlook)


# Moves


def last_move() -> BatchLog | None:
    """The move that can be undone: it is the last thing that happened, so that the way back is the same way."""
    log = BatchLog.objects.select_related("batch").order_by("-pk").first()
    return log if log is not None and log.action == Action.MOVE_BATCH else None


def preview(asked: Asked, outlook: Outlook) -> Preview:
    try:
        batch = find_batch(asked.move)
    except Refused as refused:
        return Preview(None, str(refused))
    if not batch.position:
        return Preview(batch, f"“{batch}” does not wait any more: it is {batch.status}.")
    if asked.version != outlook.queue.version:
        return Preview(batch, "The queue has changed. Check the new order and try again.")
    if asked.to is None:
        return Preview(batch, f"Give a position from 1 to {outlook.waiting:,}.")
    move = outlook.move(batch.position, asked.to)
    if not move.others:
        return Preview(batch, f"“{batch}” is at position {move.target:,} already.")
    return Preview(batch, moved_text(batch, move, outlook), move, others_text(move))


def moved_text(batch: Batch, move: Move, outlook: Outlook) -> str:
    text = f"“{batch}” goes from {move.position:,} to {move.target:,}"
    if move.later is None:
        return f"{text}."
    starts = f"{text} and starts {roughly(abs(move.later))} {'earlier' if move.later < 0 else 'later'}"
    start = outlook.turn(move.position).start
    return f"{starts}." if start is None else f"{starts} than about {clock(start)}."


def others_text(move: Move) -> str:
    """Which batches are delayed (or come earlier), and by how much."""
    between = Batch.objects.queued().filter(position__range=(move.first, move.last))
    names = list(between.order_by("position")[:SHOWN_NAMES])
    more = f" and {move.others - len(names):,} more" if move.others > len(names) else ""
    listed = ", ".join(f"“{Truncator(name).chars(SHOWN_REASON // 2)}”" for name in names) + more
    verb = "delays" if move.is_up else "brings forward"
    if move.others_later is None:
        return f"That {verb} {listed}; for how long is not known yet."
    return f"That {verb} {listed} by {roughly(abs(move.others_later))}{' each' if move.others > 1 else ''}."


# Words


def clock(moment: datetime | None, *, seconds: bool = False) -> str:
    """The time of day; with the date, unless it is today."""
    if moment is None:
        return display.NOTHING
    local = localtime(moment)
    time = f"{local:%H:%M:%S}" if seconds else f"{local:%H:%M}"
    return time if local.date() == localdate() else f"{local:%Y-%m-%d} {time}"


def roughly(seconds: float) -> str:
    """An estimate, no finer than it is good for; and a page that stays as it is from one look to the next."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 95:
        return f"about {round(seconds, -1):.0f} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 90 else f"about {minutes / 60:,.0f} h"


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:  # also for more digits than Python reads
        return None

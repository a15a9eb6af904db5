"""The content of the queue page: its sections, their rows and the preview of a move, as texts for the templates."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import AnonymousUser, User
from django.core.paginator import Page, Paginator
from django.db.models import Case, CharField, DateTimeField, F, OuterRef, QuerySet, Subquery, TextField, Value, When
from django.http import QueryDict
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from batches.limits import MAX_NAME
from batches.models import Action, Batch, BatchLog, Channel
from batches.queue.bulk import find_batches
from batches.queue.refusals import Refused
from batches.queue.undo import can_be_undone
from batches.queue.values import find_batch, fingerprint_of, require_passed
from batches.reports.failures import start_of_day
from batches.reports.forecast import Move, Outlook, forecast_queue
from batches.reports.workers import list_workers
from batches.text import clean_text, translate

from .base import parse_number
from .display import clock, number, register, roughly, status_word
from .stored import stored

Status = Batch.Status

SHOWN_WAITING = 100
#: Rows of each other section, which links to the full list.
SHOWN = 20
SHOWN_WORKERS = 50
#: Names of batches that a move delays.
SHOWN_NAMES = 3
SHOWN_REASON = 80

#: The sections beside the queue: errors are above it.
#: Each has its title, and its words after a number.
SETTLED = {
    Status.ERROR: (gettext_lazy("In error"), gettext_lazy("in error")),
    Status.PAUSED: (gettext_lazy("Paused"), gettext_lazy("paused")),
    Status.DONE: (gettext_lazy("Done today"), gettext_lazy("done today")),
}


#: The changes that can be undone, without and with the name of the person who made them.
CHANGES = {
    Action.QUEUE_BATCH: (gettext_lazy("“%(batch)s” queued"), gettext_lazy("“%(batch)s” queued by %(actor)s")),
    Action.START_BATCH: (gettext_lazy("“%(batch)s” started"), gettext_lazy("“%(batch)s” started by %(actor)s")),
    Action.PAUSE_BATCH: (gettext_lazy("“%(batch)s” paused"), gettext_lazy("“%(batch)s” paused by %(actor)s")),
    Action.MOVE_BATCH: (
        gettext_lazy("“%(batch)s” moved from %(from)s to %(to)s"),
        gettext_lazy("“%(batch)s” moved from %(from)s to %(to)s by %(actor)s"),
    ),
}


@dataclass(frozen=True, slots=True)
class Preview:
    """A move that its `query` confirms. Without a query, `text` says why it is not possible."""

    batch: Batch | None
    text: str
    query: str = ""


def queue_context(query: QueryDict, user: User | AnonymousUser) -> dict[str, Any]:
    """The template context of the page and of its live part.

    The query has a search (`q`), a page of the waiting batches (`p`) and the batch to `pause` or to `move`. `from` and
    `to` are the positions of the move; after the preview, the `move_query` has them.
    """
    can_operate = user.has_perm("batches.operate_batch")
    can_delete = user.has_perm("batches.delete_batch")
    search = clean_search(query)
    is_first = not search and not query.get("move") and query.get("p", "") in {"", "1"}
    outlook = forecast_queue(SHOWN_WAITING if is_first else None)
    waiting = Paginator(batches_of(Status.QUEUED, search).order_by("position"), SHOWN_WAITING)
    if not search:
        waiting.count = outlook.waiting
    page = waiting.get_page(query.get("p"))
    sections = [(status, *texts, find_latest(status, search)) for status, texts in SETTLED.items()]
    return {
        **outlook_context(outlook),
        "search": search,
        "version": outlook.queue.version,
        "can_operate": can_operate,
        "can_select": can_operate or can_delete,
        "can_delete": can_delete,
        "can_add": user.has_perm("batches.add_batch"),
        "started": outlook.running and describe_run_start(outlook.running),
        "page": page,
        "waiting": [(batch, outlook.turn(batch.position or 0)) for batch in page],
        "blockers": "; ".join(list_blockers(outlook)),
        "last_change": find_last_change(),
        "pausing": find_batches([query["pause"]])[query["pause"]] if can_operate and query.get("pause") else None,
        "preview": preview_move(query, outlook) if can_operate and query.get("move") else None,
        "sections": sections,
        "errors": sections[:1],
        "settled": sections[1:],
    }


# Sections


def clean_search(query: QueryDict) -> str:
    return clean_text(query.get("q", ""), MAX_NAME).strip()


def batches_of(status: str, search: str = "") -> QuerySet[Batch]:
    """The batches of a section, filtered by name."""
    batches = Batch.objects.queued() if status == Status.QUEUED else Batch.objects.filter(status=status)
    if status == Status.DONE:
        batches = batches.filter(completed_at__gte=start_of_day())
    return batches.filter(name__icontains=search) if search else batches


def find_latest(status: str, search: str) -> Page[Batch]:
    newest = F("completed_at" if status == Status.DONE else "created_at").desc(nulls_last=True)
    return Paginator(with_latest_change(batches_of(status, search)).order_by(newest), SHOWN).get_page(1)


def with_latest_change(batches: QuerySet[Batch]) -> QuerySet[Any]:
    """Annotate `changed_by`, `changed_at` and `changed_why`: who changed the status, when, and why the batch was
    paused.
    """
    into = BatchLog.objects.filter(batch=OuterRef("pk"), to_status=OuterRef("status"))
    latest = into.exclude(from_status=OuterRef("status")).order_by("-pk")
    # The messages of other actions are not reasons.
    reason = Case(When(action=Action.PAUSE_BATCH, then="message"), default=Value(""), output_field=TextField())
    return batches.annotate(
        changed_by=Subquery(latest.values("actor")[:1], output_field=CharField()),
        changed_at=Subquery(latest.values("created_at")[:1], output_field=DateTimeField()),
        changed_why=Subquery(latest.values(why=reason)[:1], output_field=TextField()),
    )


# Rows


def describe_run_start(batch: Batch) -> str:
    when = clock(batch.started_at)
    log = batch.logs.newest_first().filter(to_status=Status.RUNNING).exclude(from_status=Status.RUNNING).first()
    if log is None or not log.actor:
        return when
    by = _("%(time)s by worker %(actor)s") if log.channel == Channel.WORKER else _("%(time)s by %(actor)s")
    return by % {"time": when, "actor": log.actor}


# The queue as a whole


def describe_hold(outlook: Outlook) -> str:
    queue = outlook.queue
    if not queue.held:
        return ""
    values = {"actor": queue.held_by, "time": clock(queue.held_at), "end": clock(queue.held_until)}
    if queue.held_by and queue.held_until:
        held = _("held by %(actor)s since %(time)s until %(end)s")
    elif queue.held_by:
        held = _("held by %(actor)s since %(time)s")
    elif queue.held_until:
        held = _("held since %(time)s until %(end)s")
    else:
        held = _("held since %(time)s")
    why = translate(queue.explain_hold(stored(queue.hold_reason)))
    return f"{held % values}: {why}" if why else held % values


def outlook_context(outlook: Outlook) -> dict[str, Any]:
    """What the dashboard shows of the queue, too."""
    workers, total = list_workers(SHOWN_WORKERS)
    return {
        "outlook": outlook,
        "running": outlook.running,
        "hold": describe_hold(outlook),
        "no_worker": describe_missing_worker(outlook),
        "workers": workers,
        "more_workers": total - len(workers),
    }


def describe_missing_worker(outlook: Outlook) -> str:
    """Empty while there is one."""
    if outlook.worker_is_alive:
        return ""
    if outlook.worker_seen_at is None:
        return _("no worker heartbeat yet")
    return _("no worker heartbeat since %(time)s") % {"time": clock(outlook.worker_seen_at, seconds=True)}


def list_blockers(outlook: Outlook) -> Iterator[str]:
    """The reasons why no batch starts now. Empty if the first one is about to start."""
    if outlook.queue.held:
        yield _("the queue is held")
    if outlook.running:
        yield _("“%(batch)s” is running") % {"batch": shorten(outlook.running)}
    if missing := describe_missing_worker(outlook):
        yield missing


def shorten(batch: Batch) -> str:
    return Truncator(batch).chars(SHOWN_REASON // 2)


# Moves


def find_last_change() -> BatchLog | None:
    """The latest change, unless the order or a status has changed since."""
    change = BatchLog.objects.changes().select_related("batch").first()
    return change if change and change.batch and can_be_undone(change) else None


@register.filter
def describe_change(change: BatchLog) -> str:
    """“3” moved from 3 to 1 by ada."""
    alone, by_actor = CHANGES[Action(change.action)]
    values = {"from": number(change.from_position or 0), "to": number(change.to_position or 0)}
    return (by_actor if change.actor else alone) % {**values, "batch": change.batch, "actor": change.actor}


def move_query(batch: Batch, by: int) -> str:
    """The query of a move by N places. The move is confirmed only if it still passes the same batches."""
    passed = Batch.objects.passed_by(batch, by).values_list("pk", flat=True)
    return urlencode({"by": by, "passed": fingerprint_of(passed)})


def preview_move(query: QueryDict, outlook: Outlook) -> Preview:
    batch = None
    try:
        batch = find_batch(query["move"])
        if not batch.position:
            sentence = _("“%(batch)s” is no longer waiting. It is %(status)s.")
            return Preview(batch, sentence % {"batch": batch, "status": status_word(batch.status)})
        by = find_distance(batch, query, outlook)
    except Refused as refused:
        return Preview(batch, str(refused))
    if by is None:
        return Preview(batch, _("Enter a position from 1 to %(last)s.") % {"last": number(outlook.waiting)})
    confirmation = move_query(batch, by)  # read before the names: if they change in between, the move is refused
    move = outlook.move(batch.position, batch.position + by)
    if not move.others:
        sentence = _("“%(batch)s” is already at position %(position)s.")
        return Preview(batch, sentence % {"batch": batch, "position": number(move.target)})
    return Preview(batch, f"{describe_move(batch, move, outlook)} {describe_others(move)}", confirmation)


def find_distance(batch: Batch, query: QueryDict, outlook: Outlook) -> int | None:
    """How far to move. Raises Refused if the move would pass other batches than the page showed."""
    by, begin, to = (parse_number(query.get(key, "")) for key in ("by", "from", "to"))
    position = batch.position or 0
    if by is not None:
        require_passed(batch, by, query.get("passed", ""))
    elif begin is not None and to is not None:
        by = outlook.move(position, position + to - begin).distance
    return by


def describe_move(batch: Batch, move: Move, outlook: Outlook) -> str:
    values = {"batch": batch, "from": number(move.position), "to": number(move.target)}
    if move.later is None:
        return _("“%(batch)s” moves from %(from)s to %(to)s.") % values
    start = outlook.turn(move.position).start
    if start is None:
        values["time"] = roughly(abs(move.later))
        if move.later < 0:
            return _("“%(batch)s” moves from %(from)s to %(to)s; starts %(time)s earlier.") % values
        return _("“%(batch)s” moves from %(from)s to %(to)s; starts %(time)s later.") % values
    values |= {"before": clock(start), "time": clock(start + timedelta(seconds=move.later))}
    return _("“%(batch)s” moves from %(from)s to %(to)s; starts about %(time)s instead of %(before)s.") % values


def describe_others(move: Move) -> str:
    """The batches that start later (or earlier), and by how much."""
    between = Batch.objects.queued().filter(position__range=(move.first, move.last))
    names = [f"“{shorten(batch)}”" for batch in between.order_by("position")[:SHOWN_NAMES]]
    values = {"names": ", ".join(names)}
    if more := max(0, move.others - len(names)):
        values["names"] = _("%(names)s and %(count)s more") % {**values, "count": number(more)}
    if move.others_later is None:
        delays = _("Delays %(names)s. The time is not known yet.")
        brings_forward = _("Brings forward %(names)s. The time is not known yet.")
    else:
        values["time"] = roughly(abs(move.others_later))
        delays = ngettext("Delays %(names)s by %(time)s.", "Delays %(names)s by %(time)s each.", move.others)
        brings_forward = ngettext(
            "Brings forward %(names)s by %(time)s.", "Brings forward %(names)s by %(time)s each.", move.others
        )
    return (delays if move.is_up else brings_forward) % values

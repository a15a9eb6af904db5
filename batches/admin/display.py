"""How the admin shows batches, numbers, times and other people's addresses, in its lists and as filters in templates.

Everything is escaped.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django import template
from django.contrib import admin
from django.db.models import F, Model
from django.utils import timezone
from django.utils.html import format_html
from django.utils.timezone import localdate, localtime

from batches.conf import command_line
from batches.models import Action, Batch, BatchLog, StoryResult
from batches.text import describe_zone, format_duration

NOTHING = "–"

MINUTE, HOUR, DAY = 60, 3600, 86_400
#: From how many seconds on a relative time has which unit: 90 min tell more than 1 h, and 36 h more than one day.
UNITS = ((2 * DAY, DAY, "days"), (2 * HOUR, HOUR, "h"), (MINUTE, MINUTE, "min"))

register = template.Library()
register.filter(command_line)


def column(field: str, label: str, show: Callable[[Any], str], ordering: Any = None) -> Callable[[Model], str]:
    """A column of a list: this field of each row."""

    @admin.display(description=label, ordering=ordering)
    def show_field(row: Model) -> str:
        return show(getattr(row, field))

    show_field.__name__ = label.replace(" ", "_")  # its class in the page
    return show_field


def number(value: int) -> str:
    return f"{value:,}"


@admin.display(description="status", ordering="status")
def status_label(batch: Batch) -> str:
    return format_html('<span class="batch-status {}">{}</span>', batch.status, batch.get_status_display())


@admin.display(description="position", ordering=F("position").asc(nulls_last=True))
def place(batch: Batch) -> str:
    if batch.status == Batch.Status.RUNNING:
        return "running"
    return NOTHING if batch.position is None else number(batch.position)


@register.filter
@admin.display(description="progress")
def progress_bar(batch: Batch) -> str:
    return format_html(
        '<span class="batch-progress">'
        '<progress max="{}" value="{}" aria-label="Progress"></progress> <span>{} of {}</span></span>',
        batch.total_profiles or 1,  # HTML does not allow a maximum of 0
        batch.completed_profiles,
        number(batch.completed_profiles),
        number(batch.total_profiles),
    )


# Times: "20:43" today, "2026-11-28 20:43" on another day. The head of the page tells their zone.


@register.filter
def moment(time: datetime | None) -> str:
    """The time as an element, which also tells the full time with its zone."""
    return NOTHING if time is None else _as_element(time, clock(time))


@register.filter
def moment_after(time: datetime | None, start: datetime) -> str:
    """The same beside an earlier time, whose date need not be repeated."""
    is_same_day = time is not None and localdate(time) == localdate(start)
    return _as_element(time, f"{localtime(time):%H:%M}") if time and is_same_day else moment(time)


@register.filter
def exact(time: datetime | None) -> str:
    """The same to the second: for a heartbeat, and the order of the entries of a log."""
    return NOTHING if time is None else _as_element(time, clock(time, seconds=True))


@register.filter
def relative(time: datetime | None, now: datetime | None = None) -> str:
    """How long ago, or in how long: "3 min ago", "in 2 h". It changes at most once a minute."""
    if time is None:
        return NOTHING
    seconds = ((now or timezone.now()) - time).total_seconds()
    for beginning, size, unit in UNITS:
        if abs(seconds) >= beginning:
            length = f"{abs(seconds) // size:,.0f} {unit}"
            return _as_element(time, f"{length} ago" if seconds > 0 else f"in {length}")
    return _as_element(time, "just now" if seconds > 0 else "in less than a minute")


@register.filter
def clock(time: datetime | None, seconds: bool = False) -> str:
    """The time as plain text, for a sentence that is not HTML."""
    if time is None:
        return NOTHING
    local = localtime(time)
    text = f"{local:%H:%M:%S}" if seconds else f"{local:%H:%M}"
    return text if local.date() == localdate() else f"{local:%Y-%m-%d} {text}"


def _as_element(time: datetime, text: str) -> str:
    local = localtime(time)
    full = f"{local:%Y-%m-%d %H:%M:%S %Z}"
    return format_html('<time datetime="{}" title="{}">{}</time>', local.isoformat(timespec="seconds"), full, text)


@register.simple_tag
def time_zone() -> str:
    """For the head of a page: the zone of all its times."""
    return f"Times in {describe_zone(localtime())}"


# Names


@register.filter
def short_name(name: object) -> str:
    """On at most two lines. The whole name stays in the page, for readers, searches and copies."""
    return format_html('<span class="batch-short" title="{}">{}</span>', name, name)


@register.filter
def duration(seconds: float | None) -> str:
    return format_duration(seconds) if seconds else NOTHING


@register.filter
def signed(value: float | None) -> str:
    """A difference: "+40", "−3", "±0"."""
    if value is None:
        return NOTHING
    return f"+{value:,.0f}" if value >= 0.5 else f"−{-value:,.0f}" if value <= -0.5 else "±0"


@register.filter
def seconds(value: float | None) -> str:
    """How long one check takes: less than a second counts."""
    return NOTHING if value is None else f"{value:,.2f} s" if value < 10 else f"{value:,.0f} s"


@register.filter
def percent(value: float | None) -> str:
    """100 % only if nothing is missing, 0 % only if nothing is there: 999 of 1,000 are 99.9 %."""
    if value is None:
        return NOTHING
    return f"{value:.0f} %" if value in (0, 100) else f"{min(max(value, 0.1), 99.9):.1f} %"


@register.filter
def roughly(seconds: float) -> str:
    """A rounded estimate, so that the page does not change all the time."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 95:
        return f"about {round(seconds, -1):.0f} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 90 else f"about {minutes / 60:,.0f} h"


@register.filter
def rate(per_second: float | None) -> str:
    if not per_second:
        return NOTHING
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"


#: What the log says in words. The message of the entry follows, if it has one.
WORDS = {
    Action.CREATE_BATCH: "Created",
    Action.REPEAT_BATCH: "Created as a new run",
    Action.RENAME_BATCH: "Renamed",
    Action.SET_PRIORITY: "Priority changed",
    Action.QUEUE_BATCH: "Queued",
    Action.MOVE_BATCH: "Moved in the queue",
    Action.START_BATCH: "Started",
    Action.INTERRUPT_BATCH: "Interrupted",
    Action.PROMOTE_NEXT_BATCH: "Started in its turn",
    Action.PAUSE_BATCH: "Paused",
    Action.COMPLETE_BATCH: "Completed",
    Action.HANDLE_ERROR: "Stopped with an error",
    Action.UPDATE_PROGRESS: "Progress reported",
    Action.RETRY_FAILED: "Queued again",
    Action.UNDO_CHANGE: "Change undone",
    Action.DELETE_BATCH: "Batch deleted",
    Action.HOLD_QUEUE: "Queue held",
    Action.RELEASE_QUEUE: "Queue released",
    Action.REORDER_QUEUE: "Queue renumbered",
    Action.CLAIM_RUN: "Claimed",
    Action.TAKE_OVER: "Taken over",
    Action.RELEASE_RUN: "Left",
    Action.FINISH_RUN: "Done",
    Action.REPAIR_BATCH: "Repaired",
    Action.REPAIR_ROWS: "Rows repaired",
    Action.CREATE_LIST: "List created",
    Action.CHANGE_LIST: "List changed",
    Action.ADD_PROFILES: "Profiles added",
    Action.REMOVE_PROFILES: "Profiles removed",
    Action.CORRECT_ADDRESS: "Address corrected",
    Action.SYNC_LIST: "Profiles replaced",
    Action.RUN_LIST: "Created as a run of its list",
    Action.DELETE_LIST: "List deleted",
    Action.ACCEPT_REDIRECT: "Redirect accepted",
    Action.FORGET_PROFILE: "Profile forgotten",
    Action.SUBSCRIBE: "Subscribed",
    Action.CHANGE_SUBSCRIPTION: "Subscription changed",
    Action.UNSUBSCRIBE: "Unsubscribed",
    Action.CREATE_FEED: "Feed created",
    Action.REVOKE_FEED: "Feed revoked",
}


@register.filter
@admin.display(description="what happened")
def in_words(log: BatchLog) -> str:
    """ "Paused by ada: maintenance"."""
    words = WORDS.get(log.action, log.action)  # type: ignore[call-overload]
    if log.message.startswith("by worker "):
        return f"{words} {log.message}."
    sentence = f"{words} by {log.actor}" if log.actor else words
    return f"{sentence}: {log.message}" if log.message else f"{sentence}."


@register.filter
@admin.display(description="from → to")
def movement(log: BatchLog) -> str:
    """The change of status and position: "queued 3 → running"."""
    before = _status_and_position(log.from_status, log.from_position)
    after = _status_and_position(log.to_status, log.to_position)
    return after if before == after else f"{before or NOTHING} → {after or NOTHING}"


def _status_and_position(status: str, position: int | None) -> str:
    return f"{status} {position:,}" if position else status


@register.filter
def web_link(url: str) -> str:
    """An address that people can follow; others are text."""
    if not url.lower().startswith(("http://", "https://")):
        return url
    return format_html('<a href="{}" rel="noopener noreferrer nofollow">{}</a>', url, url)


@register.filter
@admin.display(description="story")
def story_link(story: StoryResult) -> str:
    """The title, linked only to web addresses: a `javascript:` address would run as the operator."""
    if not story.url.lower().startswith(("http://", "https://")):
        return str(story)
    return format_html('<a href="{}" rel="noopener noreferrer nofollow">{}</a>', story.url, story)

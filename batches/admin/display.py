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
from django.utils.html import format_html
from django.utils.timezone import localdate, localtime

from batches.models import Batch, BatchLog, StoryResult
from batches.text import format_duration

NOTHING = "–"

register = template.Library()


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


def moment(time: datetime | None) -> str:
    return f"{localtime(time):%Y-%m-%d %H:%M:%S}" if time else NOTHING


@register.filter
def clock(moment: datetime | None, seconds: bool = False) -> str:
    """The time of day, with the date unless it is today."""
    if moment is None:
        return NOTHING
    local = localtime(moment)
    time = f"{local:%H:%M:%S}" if seconds else f"{local:%H:%M}"
    return time if local.date() == localdate() else f"{local:%Y-%m-%d} {time}"


@register.filter
def duration(seconds: float | None) -> str:
    return format_duration(seconds) if seconds else NOTHING


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
@admin.display(description="story")
def story_link(story: StoryResult) -> str:
    """The title, linked only to web addresses: a `javascript:` address would run as the operator."""
    if not story.url.lower().startswith(("http://", "https://")):
        return str(story)
    return format_html('<a href="{}" rel="noopener noreferrer nofollow">{}</a>', story.url, story)

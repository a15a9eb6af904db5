"""How the admin shows batches, numbers, times and other people's addresses, in its lists and as filters in templates.

Everything is escaped.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from operator import attrgetter
from typing import Any

from django import template
from django.contrib import admin
from django.db.models import F, Model
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.timezone import localdate, localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches import limits
from batches.conf import worker_command
from batches.models import STATUS_WORDS, Action, Batch, BatchLog, StoryResult, Subscription
from batches.text import StrOrPromise, describe_zone, format_duration, is_web_address, translate

from .stored import stored

NOTHING = "–"

MINUTE, HOUR, DAY = 60, 3600, 86_400
#: The unit of a relative time, from this many seconds on: 90 min is more precise than 1 h, and 36 h than one day.
UNITS = (
    (2 * DAY, DAY, gettext_lazy("%(count)s days ago")),
    (2 * HOUR, HOUR, gettext_lazy("%(count)s h ago")),
    (MINUTE, MINUTE, gettext_lazy("%(count)s min ago")),
)

register = template.Library()
register.simple_tag(worker_command)
register.filter(stored)


def column(field: str, label: StrOrPromise, show: Callable[[Any], str], ordering: Any = None) -> Callable[[Model], str]:
    """A column of a list: this field of each row, or of its profile (`profile.url`)."""

    @admin.display(description=label, ordering=ordering)
    def show_field(row: Model) -> str:
        return show(attrgetter(field)(row))

    show_field.__name__ = field.rpartition(".")[2]  # its class in the page
    return show_field


def show_stored(text: str) -> str:
    return stored(text) or NOTHING


def number(value: float, decimals: int = 0) -> str:
    """For people, with the separators of their language: "1,234", "1.234"."""
    return number_format(f"{value:.{decimals}f}", force_grouping=True)


@register.filter
def status_word(status: str) -> str:
    """For a sentence. The label of a status stands alone."""
    return translate(STATUS_WORDS.get(status, status))


@admin.display(description=gettext_lazy("status"), ordering="status")
def status_label(batch: Batch) -> str:
    return format_html('<span class="batch-status {}">{}</span>', batch.status, batch.get_status_display())


@admin.display(description=gettext_lazy("position"), ordering=F("position").asc(nulls_last=True))
def place(batch: Batch) -> str:
    if batch.status == Batch.Status.RUNNING:
        return status_word(batch.status)
    return NOTHING if batch.position is None else number(batch.position)


@register.filter
@admin.display(description=gettext_lazy("progress"))
def progress_bar(batch: Batch) -> str:
    counts = {"done": number(batch.completed_profiles), "total": number(batch.total_profiles)}
    return format_html(
        '<span class="batch-progress"><progress max="{}" value="{}" aria-label="{}"></progress> <span>{}</span></span>',
        batch.total_profiles or 1,  # HTML does not allow a maximum of 0
        batch.completed_profiles,
        _("Progress"),
        _("%(done)s of %(total)s") % counts,
    )


# Times: "20:43" today, "2026-11-28 20:43" on another day. The header of the page shows the time zone.


@register.filter
def moment(time: datetime | None) -> str:
    """The time as an element with the full time and its zone in the tooltip."""
    return NOTHING if time is None else _as_element(time, clock(time))


@register.filter
def moment_after(time: datetime | None, start: datetime) -> str:
    """Like `moment`, beside an earlier time: without the date if it is the same day."""
    is_same_day = time is not None and localdate(time) == localdate(start)
    return _as_element(time, f"{localtime(time):%H:%M}") if time and is_same_day else moment(time)


@register.filter
def exact(time: datetime | None) -> str:
    """Like `moment`, with seconds: for heartbeats, and for log entries of the same minute."""
    return NOTHING if time is None else _as_element(time, clock(time, seconds=True))


@register.filter
def relative(time: datetime, now: datetime | None = None) -> str:
    """How long ago: "3 min ago". It changes at most once a minute."""
    seconds = ((now or timezone.now()) - time).total_seconds()
    for beginning, size, text in UNITS:
        if seconds >= beginning:
            return _as_element(time, text % {"count": number(int(seconds // size))})
    return _as_element(time, _("just now"))


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


#: Columns that several lists have. The log has entries of the same minute.
CREATED = column("created_at", gettext_lazy("created"), moment, ordering="created_at")
AT = column("created_at", gettext_lazy("at"), exact)


@register.simple_tag
def time_zone() -> str:
    """The zone of all times of a page, for its header."""
    return _("Times in %(zone)s") % {"zone": describe_zone(localtime())}


# Names


@register.filter
def short_name(name: object) -> str:
    """On at most two lines. The whole name stays in the page, for readers, searches and copies."""
    return format_html('<span class="batch-short" title="{}">{}</span>', name, name)


@register.filter
def of(label: object, name: object) -> str:
    """ "Top: “nightly”": the label of a button for people who cannot see the row that it belongs to."""
    return _("%(label)s: “%(batch)s”") % {"label": translate(label), "batch": name}


@register.filter
def duration(seconds: float | None) -> str:
    return format_duration(seconds) if seconds else NOTHING


@register.filter
def signed(value: float) -> str:
    """A difference: "+40", "−3", "±0"."""
    return f"+{number(value)}" if value >= 0.5 else f"−{number(-value)}" if value <= -0.5 else "±0"


@register.filter
def seconds(value: float | None) -> str:
    """The duration of a check, with fractions of a second."""
    return NOTHING if value is None else f"{number(value, 2 if value < 10 else 0)} s"


#: Columns of what the database has in English or with many digits.
STORED: Mapping[Any, Any] = {
    "error": column("error", gettext_lazy("error"), show_stored),
    "last_error": column("last_error", gettext_lazy("last error"), show_stored),
    "duration": column("duration", gettext_lazy("duration"), seconds),
    "last_duration": column("last_duration", gettext_lazy("duration"), seconds),
    "message": column("message", gettext_lazy("message"), show_stored),
}


@register.filter
def percent(value: float | None) -> str:
    """100 % only if all are done, 0 % only if none is: 999 of 1,000 are 99.9 %."""
    if value is None:
        return NOTHING
    return f"{number(value) if value in (0, 100) else number(min(max(value, 0.1), 99.9), 1)} %"


@register.filter
def roughly(seconds: float) -> str:
    """A rounded estimate, so that the page does not change constantly."""
    if seconds < 10:
        return _("a few seconds")
    if seconds < 95:
        return _("about %(count)s s") % {"count": int(round(seconds, -1))}
    minutes = round(seconds / 60)
    if minutes < 90:
        return _("about %(count)s min") % {"count": minutes}
    return _("about %(count)s h") % {"count": number(round(minutes / 60))}


@register.filter
def rate(per_second: float | None) -> str:
    if not per_second:
        return NOTHING
    return f"{number(per_second, 0 if per_second >= 10 else 1)}/s"


@register.filter
@admin.display(description=gettext_lazy("what happened"))
def in_words(log: BatchLog) -> str:
    """ "Paused by ada: maintenance"."""
    message = translate(stored(log.message))
    what = Action(log.action).label if log.action in Action.values else log.action
    values = {"what": what, "actor": log.actor, "message": message}
    if log.message.startswith("by worker "):
        return f"{what} {message}."
    if log.actor and log.message:
        return _("%(what)s by %(actor)s: %(message)s") % values
    if log.actor:
        return _("%(what)s by %(actor)s.") % values
    return f"{what}: {message}" if message else f"{what}."


#: Short, for a column. The labels of topics are for the form.
TOPIC_WORDS: Mapping[str, StrOrPromise] = {
    Subscription.Topic.STORIES: gettext_lazy("stories"),
    Subscription.Topic.DONE: gettext_lazy("done"),
    Subscription.Topic.ERROR: gettext_lazy("error"),
    Subscription.Topic.FAILING: gettext_lazy("failing"),
    Subscription.Topic.RECOVERED: gettext_lazy("recovered"),
    Subscription.Topic.FAILURES: gettext_lazy("failures"),
    Subscription.Topic.HELD: gettext_lazy("held"),
    Subscription.Topic.NO_WORKER: gettext_lazy("no_worker"),
}


@register.filter
@admin.display(description=gettext_lazy("topics"))
def topic_words(subscription: Subscription) -> str:
    return ", ".join(str(TOPIC_WORDS.get(topic, topic)) for topic in subscription.topics)


@register.filter
@admin.display(description=gettext_lazy("from → to"))
def movement(log: BatchLog) -> str:
    """The change of status and position: "queued 3 → running"."""
    before = _status_and_position(log.from_status, log.from_position)
    after = _status_and_position(log.to_status, log.to_position)
    return after if before == after else f"{before or NOTHING} → {after or NOTHING}"


def _status_and_position(status: str, position: int | None) -> str:
    return f"{status_word(status)} {number(position)}" if position else status_word(status)


@register.simple_tag
def limit(name: str) -> int:
    """The size `MAX_<name>` in `limits`, for an attribute: `maxlength="{% limit "NAME" %}"`."""
    return int(getattr(limits, f"MAX_{name}"))


@register.filter
def web_link(url: str, text: object = None) -> str:
    """The text, or the address itself, linked only to a web address."""
    if not is_web_address(url):
        return str(text or url)
    return format_html('<a href="{}" rel="noopener noreferrer nofollow">{}</a>', url, text or url)


@register.filter
@admin.display(description=gettext_lazy("story"))
def story_link(story: StoryResult) -> str:
    return web_link(story.url, story)

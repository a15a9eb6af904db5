"""Renders a message for people from its payload: a subject, plain text and simple HTML.

Names and titles come from strangers: HTML is escaped, and each is on one line.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.template import Library
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, get_script_prefix, reverse
from django.utils.translation import override

from batches.conf import get_config
from batches.models import Event, WebhookDelivery
from batches.text import format_duration, is_web_address, one_line, pluralise

register = Library()
register.filter(one_line)
register.filter(is_web_address)


@dataclass(frozen=True, slots=True)
class Letter:
    subject: str
    text: str
    html: str


@override("en")
def word_letter(delivery: WebhookDelivery) -> Letter:
    payload = json.loads(delivery.payload)
    data = payload["data"]
    runs = [RunView(run) for run in data.get("runs", [data] if "batch" in data else [])]
    subject = one_line(word_subject(payload["type"], data, runs))
    context = {
        "subject": subject,
        "runs": runs,
        "more_runs": data.get("runs_total", 0) - len(runs) if "runs" in data else 0,
        "is_test": payload["type"] == Event.SUBSCRIPTION_TEST,
        "alert": word_alert(payload["type"], data),
        "queue_link": link("batch_queue"),
        "subscription_link": link("subscription_change", delivery.subscription_id),
    }
    text = render_to_string("batches/messages/message.txt", context)
    return Letter(subject, text.strip() + "\n", render_to_string("batches/messages/message.html", context))


def word_subject(event: str, data: Mapping[str, Any], runs: Sequence["RunView"]) -> str:
    name = f"“{one_line(data['list']['name'])}”" if data.get("list") else "the queue"
    if event == Event.SUBSCRIPTION_TEST:
        return f"Test message for {name}"
    if event == Event.QUEUE_HELD:
        return f"The queue has been held for {describe_time(data['held_at'], data['at'])}"
    if event == Event.NO_WORKER:
        return f"No worker {'ran' if data['is_back'] else 'has run'} for {describe_time(data['since'], data['at'])}"
    if event == Event.DIGEST:
        stories = pluralise(data["stories_total"], "new story", "new stories")
        return f"{stories} in {name}, {pluralise(data['runs_total'], 'run')} of a day"
    [run] = runs
    return f"{', '.join(run.headlines)} in {name}" if run.headlines else f"{name} {run.outcome}"


def word_alert(event: str, data: Mapping[str, Any]) -> str:
    """A sentence about the queue; "" for other events."""
    if event == Event.QUEUE_HELD:
        by = f" by {one_line(data['held_by'])}" if data["held_by"] else ""
        why = f": {one_line(data['hold_reason'])}" if data["hold_reason"] else "."
        return f"No batch has started since {shorten_time(data['held_at'])}. The queue is held{by}{why}"
    if event == Event.NO_WORKER:
        back = f" A worker started at {shorten_time(data['at'])}." if data["is_back"] else ""
        return f"The last heartbeat of a worker was at {shorten_time(data['since'])}.{back}"
    return ""


def describe_time(since: str, until: str) -> str:
    return format_duration((datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds())


def shorten_time(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M} UTC"


class RunView:
    """A run as the templates show it."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.batch: Mapping[str, Any] = data["batch"]
        self.stories: Mapping[str, Any] | None = data.get("stories")

    @property
    def headlines(self) -> list[str]:
        """The news of the run for the subject, the most important first."""
        lines = []
        if self.stories:
            lines.append(pluralise(self.stories["total"], "new story", "new stories"))
        for topic, what in (("failing", "began to fail"), ("recovered", "recovered")):
            if found := self.data.get(topic):
                lines.append(f"{pluralise(found['total'], 'profile')} {what}")
        if failures := self.data.get("failures"):
            lines.append(f"{failures['failed']:,} of {failures['checked']:,} profiles failed")
        return lines

    @property
    def outcome(self) -> str:
        if self.batch["status"] == "error":
            return f"stopped with an error: {one_line(self.batch['error'])}"[:200]
        return f"is done: {self.batch['successful_checks']:,} ok, {self.batch['failed_checks']:,} failed"

    @property
    def changes(self) -> list[tuple[str, Mapping[str, Any], int]]:
        """(heading, profiles, number of further profiles) for the profiles that began to fail, and that recovered."""
        headings = {"failing": "Began to fail", "recovered": "Recovered"}
        found = [(heading, self.data[topic]) for topic, heading in headings.items() if topic in self.data]
        return [(heading, part, part["total"] - len(part["profiles"])) for heading, part in found]

    @property
    def more_stories(self) -> int:
        if not self.stories:
            return 0
        return int(self.stories["total"]) - sum(len(profile["stories"]) for profile in self.stories["profiles"])

    @property
    def link(self) -> str:
        return link("batch_change", self.batch["id"])

    @property
    def stories_link(self) -> str:
        return link("storyresult_changelist", batch=self.batch["id"])


def link(page: str, *args: Any, **query: Any) -> str:
    """The full address of a page of the admin; "" if BATCHES_BASE_URL is not set."""
    base = get_config().base_url
    if not base:
        return ""
    try:
        path = reverse(f"admin:batches_{page}", args=args)
    except NoReverseMatch:  # a project without the admin
        return ""
    address = f"{base.rstrip('/')}/{path.removeprefix(get_script_prefix())}"
    return f"{address}?{urlencode(query)}" if query else address

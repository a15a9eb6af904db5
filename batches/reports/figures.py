"""The state of the queue as figures for Prometheus, which are the same in each process."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Min, Sum
from django.db.models.functions import Now
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from batches.models import Action, Batch, BatchLog, Host, Lease, Queue, WebhookDelivery, Worker, is_alive, is_not_ahead

from .forecast import sum_up_waiting

Status = Batch.Status
DAY = timedelta(hours=24)
COUNTERS = {"ok": "successful_checks", "failed": "failed_checks", "skipped": "skipped_profiles"}


class QueueCollector(Collector):
    """Makes a constant number of queries. Figures without a subject, such as a running batch, are left out."""

    def collect(self) -> Iterable[Metric]:
        queue = Queue.objects.annotate(now=Now()).first()
        if queue is not None:
            yield from describe_hold(queue)
            yield from describe_workers(queue)
        yield from describe_batches()
        yield from describe_run()
        yield from describe_day()
        yield from describe_deliveries()
        paused = Host.objects.filter(not_before__gt=Now()).count()
        yield gauge("hosts_paused", "Hosts that have asked for a pause that is not over.", paused)


def gauge(name: str, text: str, value: float | None) -> Metric:
    return GaugeMetricFamily(f"batches_{name}", text, value)


def gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    metric = GaugeMetricFamily(f"batches_{name}", text, labels=[label])
    for key, value in values.items():
        metric.add_metric([key], value)
    return metric


def age(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else (now - moment).total_seconds()


def describe_hold(queue: Any) -> Iterator[Metric]:
    yield gauge("queue_held", "1 while the queue is held.", int(queue.held))
    yield gauge("queue_outage", "1 while it is held for an outage of our own.", int(queue.outage_since is not None))
    held_at = queue.held_at if queue.held else None
    yield gauge("queue_held_seconds", "Seconds since it is held.", age(held_at, queue.now))


def describe_workers(queue: Any) -> Iterator[Metric]:
    leases = Lease.objects.aggregate(count=Count("pk"), first=Min("lease_at"))
    alive = Count("pk", filter=is_alive())
    last = Max("seen_at", filter=is_not_ahead())
    versions = list(Worker.objects.values("version").annotate(alive=alive, last=last).order_by("version"))
    seen_at = max((version["last"] for version in versions if version["last"]), default=None)
    yield gauge("workers", "Workers that have a part in the running batch.", leases["count"])
    text = "Idle and busy workers with a heartbeat within BATCHES_LEASE_SECONDS, by version."
    counts = {version["version"]: version["alive"] for version in versions if version["alive"]}
    yield gauges("workers_by_version", text, "version", counts)
    yield gauge("lease_age_seconds", "Seconds since the oldest of their heartbeats.", age(leases["first"], queue.now))
    yield gauge("heartbeat_age_seconds", "Seconds since the last heartbeat of any worker.", age(seen_at, queue.now))


def describe_batches() -> Iterator[Metric]:
    counts = dict(Batch.objects.values_list("status").annotate(count=Count("*")))
    yield gauges("batches", "Batches by status.", "status", dict.fromkeys(Status.values, 0) | counts)
    waiting = sum(profiles for _, _, profiles in sum_up_waiting())
    yield gauge("waiting_profiles", "Profiles to check in queued batches.", waiting)


def describe_run() -> Iterator[Metric]:
    running = Batch.objects.running().first()
    if running is None:
        return
    yield gauges("run_profiles", "Profiles of the running batch by outcome.", "outcome", running.outcomes)
    yield gauge("run_seconds", "Seconds that workers have spent on it.", running.run_seconds)
    takeovers = BatchLog.objects.filter(batch=running, action=Action.TAKE_OVER).count()
    yield gauge("run_takeovers", "How often it was taken over from a worker without heartbeat.", takeovers)
    text = "Takeovers since its last progress. It stops with an error after BATCHES_MAX_TAKEOVERS."
    yield gauge("run_takeovers_without_progress", text, running.takeovers)


def describe_day() -> Iterator[Metric]:
    done = Batch.objects.filter(status=Status.DONE, completed_at__gt=Now() - DAY)
    sums = {outcome: Sum(counter, default=0) for outcome, counter in COUNTERS.items()}
    day = done.aggregate(batches=Count("pk"), stories=Sum("stories_found", default=0), **sums)
    yield gauge("day_batches", "Batches that were done within 24 hours.", day["batches"])
    yield gauge("day_stories", "New stories that they have found.", day["stories"])
    yield gauges("day_profiles", "Their profiles by outcome.", "outcome", {name: day[name] for name in COUNTERS})


def describe_deliveries() -> Iterator[Metric]:
    waiting = WebhookDelivery.objects.waiting().count()
    yield gauge("deliveries_waiting", "Messages that wait for their next attempt.", waiting)
    due: Any = WebhookDelivery.objects.claimable().order_by("next_attempt_at").annotate(now=Now()).first()
    late = age(due.next_attempt_at, due.now) if due else 0.0
    yield gauge("deliveries_late_seconds", "Seconds since the oldest of them was due.", late)

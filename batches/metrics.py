"""Measurements of a process, for Prometheus. Figures from the database are in `reports/figures.py`."""

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

#: Our own, so that a project's figures are not mixed with ours.
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

#: Seconds: from a quick statement to the timeout of a lock.
DATABASE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 20.0)

LOCK_WAIT = Histogram(
    "batches_lock_wait_seconds",
    "Waiting for the lock of the queue, which each change of order or status takes.",
    buckets=DATABASE,
    registry=REGISTRY,
)
LOCK_HELD = Histogram(
    "batches_lock_held_seconds", "Holding the lock of the queue, until the COMMIT.", buckets=DATABASE, registry=REGISTRY
)
RECORDING = Histogram(
    "batches_recording_seconds", "Recording a chunk of results, until the COMMIT.", buckets=DATABASE, registry=REGISTRY
)
RESULTS = Counter("batches_results", "Results that this worker has recorded.", ["outcome"], registry=REGISTRY)
LOOP_LAG = Histogram(
    "batches_loop_lag_seconds",
    "How late the event loop of this worker was. A late loop makes hosts wait, and soon its lease.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
    registry=REGISTRY,
)
LOOKUPS = Histogram(
    "batches_dns_lookup_seconds",
    "Looking up a name that was not cached.",
    ["outcome"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 8.0),
    registry=REGISTRY,
)
DELIVERIES = Counter(
    "batches_delivery_attempts", "Attempts of this worker to deliver a message.", ["outcome"], registry=REGISTRY
)

# Create all labels at the start: a rate needs the zero before the first event.
for metric, outcomes in (
    (RESULTS, ("ok", "failed")),
    (LOOKUPS, ("ok", "no_such_host", "no_answer")),
    (DELIVERIES, ("ok", "failed")),
):
    for outcome in outcomes:
        metric.labels(outcome)

"""The settings of every process of the harness. To be prepared before anything that needs Django is imported."""

from __future__ import annotations

import os

import django

from batches.tests.support import environment as tests  # keeps the developer's shell out, too

#: Short, so that 500 kills take minutes; a worker renews its lease three times within it.
LEASE_SECONDS = 0.6
POLL_SECONDS = 0.05
GRACE_SECONDS = 2.0

#: Seconds added to every limit of time: a new process has to be started, and a core may have ten of them to serve.
#: On a machine that others use as well, STRESS_TOLERANCE gives more.
TOLERANCE = float(os.environ.get("STRESS_TOLERANCE", "2"))

#: A take-over counts against a batch only where it is what is tried.
NEVER = 30_000

SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "batchproject.settings",
    "BATCHES_ALLOWED_NETWORKS": "127.0.0.0/8",
    "BATCHES_CHECKERS": "deadly=batches.tests.support.checkers.Deadly",
    "BATCHES_CONCURRENCY": "8",
    "BATCHES_PER_HOST": "8",
    "BATCHES_GRACE_SECONDS": str(GRACE_SECONDS),
    "BATCHES_LEASE_SECONDS": str(LEASE_SECONDS),
    "BATCHES_MAX_TAKEOVERS": str(NEVER),
    "BATCHES_PAGE_SIZE": "40",
    "BATCHES_POLL_SECONDS": str(POLL_SECONDS),
    "BATCHES_RECORD_SECONDS": "0.02",
    "BATCHES_RECORD_SIZE": "5",
    "BATCHES_RETRIES": "0",
}


def prepare() -> None:
    tests.isolate(os.environ)
    os.environ.update(SETTINGS)
    django.setup()

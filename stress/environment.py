"""The settings of every process of the harness. Call `prepare` before you import anything that needs Django."""

import os

import django

from batches.tests.support import environment as tests  # ignores the developer's environment

#: Short, so that 500 kills take minutes. A worker renews its lease three times in this time.
LEASE_SECONDS = 0.6
POLL_SECONDS = 0.05
GRACE_SECONDS = 2.0
#: Requests to a host at once, over all processes.
PER_HOST = 2

#: Seconds to add to every time limit, because processes take time to start and up to ten of them share a core.
#: Set STRESS_TOLERANCE to more on a busy machine.
TOLERANCE = float(os.environ.get("STRESS_TOLERANCE", "2"))

#: Takeovers do not fail a batch, except in the fault that tries this.
NEVER = 30_000

SETTINGS = {
    "DJANGO_SETTINGS_MODULE": "batchproject.settings",
    "BATCHES_ALLOWED_NETWORKS": "127.0.0.0/8",
    "BATCHES_CHECKERS": "deadly=batches.tests.support.checkers.Deadly",
    "BATCHES_CONCURRENCY": "8",
    "BATCHES_PER_HOST": str(PER_HOST),
    "BATCHES_GRACE_SECONDS": str(GRACE_SECONDS),
    "BATCHES_LEASE_SECONDS": str(LEASE_SECONDS),
    "BATCHES_MAX_TAKEOVERS": str(NEVER),
    "BATCHES_PAGE_SIZE": "40",
    "BATCHES_POLL_SECONDS": str(POLL_SECONDS),
    "BATCHES_PROCESSES": "1",
    "BATCHES_RECORD_SECONDS": "0.02",
    "BATCHES_RECORD_SIZE": "5",
    "BATCHES_RETRIES": "0",
}


def prepare() -> None:
    tests.isolate(os.environ)
    os.environ.update(SETTINGS)
    django.setup()

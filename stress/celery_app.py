"""The project's Celery application, with results that are signed for the audit. STRESS_TWICE doubles all messages."""

import os
from collections.abc import Callable
from typing import Any

import django

django.setup()

from batches.batch_manager import BatchManager  # noqa: E402
from batchproject.celery import app  # noqa: E402, F401 — Celery looks for it here
from stress import audit  # noqa: E402
from stress.worker import wrap  # noqa: E402


def sign_and_record(call: Callable[[], Any], manager: BatchManager, batch_id: Any, token: Any, *_: Any) -> Any:
    audit.sign(token)
    return call()


wrap(BatchManager, "record_results", sign_and_record)
if os.environ.get("STRESS_TWICE"):
    import batches.tests.support.celery_twice  # noqa: F401

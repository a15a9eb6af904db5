"""The project's Celery application, with results that are signed for the audit. STRESS_TWICE doubles all messages."""

import os
from collections.abc import Callable
from typing import Any

import django

django.setup()

from batches.batch_manager import BatchManager  # noqa: E402
from batchproject.celery import app  # noqa: E402 — Celery looks for it here
from stress import audit  # noqa: E402
from stress.worker import wrap  # noqa: E402


def sign_and_record(call: Callable[[], Any], manager: BatchManager, batch_id: Any, token: Any, *_: Any) -> Any:
    audit.sign(token)
    return call()


def send_twice(*arguments: Any, **options: Any) -> Any:
    send(*arguments, **options)
    return send(*arguments, **options)


wrap(BatchManager, "record_results", sign_and_record)
send = app.amqp.send_task_message
if os.environ.get("STRESS_TWICE"):
    app.amqp.__dict__["send_task_message"] = send_twice

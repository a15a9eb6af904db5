"""The project's Celery application, with a broker that delivers each message twice."""

from functools import wraps
from typing import Any

from batchproject.celery import app

send = app.amqp.send_task_message


@wraps(send)
def send_twice(*arguments: Any, **options: Any) -> Any:
    send(*arguments, **options)
    return send(*arguments, **options)


app.amqp.__dict__["send_task_message"] = send_twice

"""The tasks of Celery."""

import os

from celery import Celery

URL = os.environ["BENCH_URL"]
app = Celery("bench", broker=f"{URL}/0", backend=f"{URL}/1")
# For many short tasks: https://docs.celeryq.dev/en/stable/userguide/optimizing.html#prefetch-limits
app.conf.worker_prefetch_multiplier = 128
app.conf.result_expires = None  # one command less for each result
app.conf.task_send_sent_event = False


@app.task
def noop(number: int) -> bool:
    return True

"""The Celery application, with processes that have more memory than allowed after each task."""

from batchproject.celery import app

app.conf.worker_max_memory_per_child = 1

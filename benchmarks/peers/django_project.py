"""A Django project for the queues that are Django apps."""

import os

import dj_database_url

URL = os.environ["BENCH_URL"]
PROCESSES = int(os.environ["BENCH_PROCESSES"])
SECRET_KEY = "benchmark"
USE_TZ = True
INSTALLED_APPS = ["django_q", "django_tasks_db"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": dj_database_url.parse(URL, conn_max_age=None)}
if URL.startswith("sqlite"):
    # The same as ours. Without them workers fail with "database is locked".
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-20000;",
    }
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
# Every setting that its documentation names for speed (https://django-q2.readthedocs.io/en/master/configure.html):
# `bulk` fetches many tasks in one query, `save_limit` 0 spares the query for old results, `recycle` spares restarts.
# `retry` is long, so that nothing is done twice.
Q_CLUSTER = {
    "name": "bench",
    "orm": "default",
    "workers": PROCESSES,
    "bulk": 500,
    "queue_limit": 1000,
    "save_limit": 0,
    "recycle": 1_000_000,
    "timeout": 3600,
    "retry": 7200,
    "poll": 0.01,
    "scheduler": False,
    "log_level": "ERROR",
    "max_attempts": 1,
}
LOGGING_CONFIG = None

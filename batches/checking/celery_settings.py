"""The settings of Celery that the tasks of `batches.checking.celery` need. It imports no models, so that the
application can be configured before Django is set up.
"""

from typing import Any

from batches.conf import Config

#: Two queues, so that checks and other tasks do not wait for each other.
QUEUES = CHECKS, OTHERS = "batches", "batches.others"
PROMOTE, CHECK, TEND = "batches.promote", "batches.check", "batches.tend"

#: Seconds between two `tend` tasks: the longest wait of a webhook.
TEND_SECONDS = 5.0
#: Seconds that a task may take in addition to its checks: to record, and to deliver due messages.
RESERVE_SECONDS = 60.0
#: Celery kills a new process that does not respond within these seconds. On a busy machine its default of 4 s is too
#: short: each process was killed and replaced by another one, for minutes.
START_SECONDS = 60.0
#: Kilobytes that a process may have after a task. Above that, another process replaces it.
MAX_MEMORY = 400_000


def celery_settings(config: Config) -> dict[str, Any]:
    """For `app.conf.update`."""
    return {
        "beat_schedule": {
            PROMOTE: {"task": PROMOTE, "schedule": config.poll_seconds},
            TEND: {"task": TEND, "schedule": TEND_SECONDS},
        },
        "beat_scheduler": "celery.beat:Scheduler",  # no file: all state is in the database
        "broker_connection_retry_on_startup": True,
        # RabbitMQ redelivers the tasks of a lost worker at once. Redis waits for this long.
        "broker_transport_options": {"visibility_timeout": longest_task(config)},
        "task_routes": {
            name: {"queue": queue, "delivery_mode": "transient"}
            for name, queue in {CHECK: CHECKS, PROMOTE: OTHERS, TEND: OTHERS}.items()
        },
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # a second delivery does no harm
        "worker_max_memory_per_child": MAX_MEMORY,
        "worker_prefetch_multiplier": 1,
        "worker_proc_alive_timeout": START_SECONDS,
    }


def longest_task(config: Config) -> float:
    return config.task_seconds + config.check_timeout + config.grace_seconds + RESERVE_SECONDS

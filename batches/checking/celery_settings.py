"""What the tasks of `batches.checking.celery` need of a Celery application. It imports no models, so that the
application can be configured before Django is set up.
"""

from typing import Any

from batches.conf import Config

#: Two queues, so that neither the checks keep the other tasks waiting nor these the checks.
QUEUES = CHECKS, OTHERS = "batches", "batches.others"
PROMOTE, CHECK, TEND = "batches.promote", "batches.check", "batches.tend"

#: Seconds between two orders to tend: webhooks wait at most so long.
TEND_SECONDS = 5.0
#: Seconds that a task may take in addition to its checks: to record, and to deliver what is due.
RESERVE_SECONDS = 60.0
#: Seconds in which a new process must say that it is there, or Celery kills it. On a busy machine its 4 s are too few:
#: each process was killed and replaced by another one, for minutes.
START_SECONDS = 60.0
#: Kilobytes that a process may have after a task. Above that, another one takes its place.
MAX_MEMORY = 400_000


def celery_settings(config: Config) -> dict[str, Any]:
    """For `app.conf.update`."""
    return {
        "beat_schedule": {
            PROMOTE: {"task": PROMOTE, "schedule": config.poll_seconds},
            TEND: {"task": TEND, "schedule": TEND_SECONDS},
        },
        "beat_scheduler": "celery.beat:Scheduler",  # without a file: all state is in the database
        "broker_connection_retry_on_startup": True,
        # RabbitMQ hands on at once what a lost worker had taken. Redis waits for so long.
        "broker_transport_options": {"visibility_timeout": longest_task(config)},
        "task_routes": {
            name: {"queue": queue, "delivery_mode": "transient"}
            for name, queue in {CHECK: CHECKS, PROMOTE: OTHERS, TEND: OTHERS}.items()
        },
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # a second delivery changes nothing
        "worker_max_memory_per_child": MAX_MEMORY,
        "worker_prefetch_multiplier": 1,
        "worker_proc_alive_timeout": START_SECONDS,
    }


def longest_task(config: Config) -> float:
    return config.task_seconds + config.check_timeout + config.grace_seconds + RESERVE_SECONDS

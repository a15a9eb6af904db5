"""The Celery application, for BATCHES_EXECUTOR=celery: `celery -A batchproject worker`."""

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from kombu.entity import Queue

from batches.checking.celery_settings import QUEUES, celery_settings
from batches.conf import get_config

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "batchproject.settings")

if not settings.CELERY_BROKER_URL:
    raise ImproperlyConfigured("Set CELERY_BROKER_URL to a broker: amqp://localhost or redis://localhost.")

app = Celery("batchproject", task_queues=[Queue(name) for name in QUEUES])  # type: ignore[no-untyped-call]
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(celery_settings(get_config()))
app.autodiscover_tasks(["batches.checking"], related_name="celery")


@setup_logging.connect
def keep_logging(**kwargs: Any) -> None:
    """Prevents Celery from replacing Django's logging."""

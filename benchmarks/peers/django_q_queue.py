"""django-q2 with the ORM broker, which its documentation describes for SQLite and PostgreSQL
(https://django-q2.readthedocs.io/en/master/brokers.html#django-orm). `qcluster` has one process that fetches, the
workers, and one that stores."""

from collections.abc import Sequence

import django_queues
import queues


class DjangoQQueue(django_queues.DjangoQueue):
    def enqueue(self, count: int) -> None:
        from django.db import transaction
        from django_q.tasks import async_task

        with transaction.atomic():
            for number in range(count):
                async_task("noop_tasks.noop", number)

    @property
    def commands(self) -> list[Sequence[object]]:
        return [[queues.script("django-admin"), "qcluster", "--settings=django_project"]]

    def count_results(self) -> int:
        from django_q.models import Success

        return Success.objects.count()


queues.measure(DjangoQQueue)

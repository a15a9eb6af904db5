"""django-tasks-db: `db_worker` processes that do not wait between tasks
(https://pypi.org/project/django-tasks-db/). It has no call for many tasks, so they are queued in one transaction."""

from collections.abc import Sequence

import django_queues
import queues


class DjangoTasksQueue(django_queues.DjangoQueue):
    def enqueue(self, count: int) -> None:
        from django.db import transaction
        from noop_tasks import noop_task

        with transaction.atomic():
            for number in range(count):
                noop_task.enqueue(number)

    @property
    def commands(self) -> list[Sequence[object]]:
        options = ["--settings=django_project", "--interval=0.001", "--no-startup-delay", "--verbosity=0"]
        return [[queues.script("django-admin"), "db_worker", *options] for _ in range(self.processes)]

    def count_results(self) -> int:
        from django_tasks_db.models import DBTaskResult

        return DBTaskResult.objects.successful().count()


queues.measure(DjangoTasksQueue)

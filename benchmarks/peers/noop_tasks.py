"""The tasks of the queues that are Django apps."""

from django_tasks import task


def noop(number: int) -> bool:
    return True


@task()
def noop_task(number: int) -> bool:
    return True

from typing import Any

from batches.checking.worker import Worker
from batches.management.base import DatabaseCommand


class Command(DatabaseCommand):
    help = (
        "Check the profiles of the running batch, then promote the next batch, until SIGTERM or Ctrl-C. "
        "Any number of workers can run: one of them checks, the others are ready to take over."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        Worker().work()

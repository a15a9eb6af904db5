from typing import Any

from django.core.management.base import BaseCommand

from batches.checking.worker import Worker
from batches.management.base import faults_of_the_database_in_a_sentence
from batches.management.preflight import require_migrations


class Command(BaseCommand):
    help = (
        "Work on the queue: check the running batch's profiles, then promote the next batch, until SIGTERM or Ctrl-C. "
        "Any number of workers may run; one batch is checked at a time, and the others wait to take over."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        require_migrations()
        with faults_of_the_database_in_a_sentence():
            Worker().work()

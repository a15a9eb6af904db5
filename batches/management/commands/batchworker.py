from typing import Any

from django.core.management.base import BaseCommand

from batches.checking.worker import Worker
from batches.management.base import database_faults_as_sentences, require_migrations


class Command(BaseCommand):
    help = (
        "Check the profiles of the running batch, then promote the next batch, until SIGTERM or Ctrl-C. "
        "Any number of workers can run: one of them checks, the others are ready to take over."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        require_migrations()
        with database_faults_as_sentences():
            Worker().work()

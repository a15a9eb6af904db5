from typing import Any

from django.core.management.commands import dumpdata

from batches.models import snapshot


class Command(dumpdata.Command):
    def handle(self, *labels: Any, **options: Any) -> None:
        """As Django's, but while batches are imported or deleted the dump has what its rows refer to.

        It reads one moment, and includes the hidden batches: a worker removes them where the dump is loaded.
        """
        with snapshot():
            super().handle(*labels, **options | {"use_base_manager": True})

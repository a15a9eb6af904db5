from typing import Any

from django.core.management.commands import dumpdata

from batches.models import Lease, Partition, snapshot

WHO_WORKS = (Lease._meta.label_lower, Partition._meta.label_lower)


class Command(dumpdata.Command):
    def handle(self, *labels: Any, **options: Any) -> None:
        """As Django's, but while batches are imported or deleted the dump has what its rows refer to.

        It reads one moment, and includes the hidden batches: a worker removes them where the dump is loaded.
        It leaves out who works on a run: nobody does there, and a batch is read with what its leases have counted.
        """
        options["exclude"] = [*options["exclude"], *WHO_WORKS]
        with snapshot():
            super().handle(*labels, **options | {"use_base_manager": True})

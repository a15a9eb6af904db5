from typing import Any

from django.core.management.commands import dumpdata

from batches.models import Lease, Partition, snapshot

OF_WORKERS = (Lease._meta.label_lower, Partition._meta.label_lower)


class Command(dumpdata.Command):
    def handle(self, *labels: Any, **options: Any) -> None:
        """Dump like Django's command, but consistently even while batches are imported or deleted.

        It reads one snapshot, and includes hidden batches, which a worker removes after the dump is loaded. It leaves
        out leases and partitions: no worker of theirs exists after loading, and batches are read with the counts of
        their leases.
        """
        options["exclude"] = [*options["exclude"], *OF_WORKERS]
        with snapshot():
            super().handle(*labels, **options | {"use_base_manager": True})

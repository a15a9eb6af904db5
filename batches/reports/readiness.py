"""Whether the application can do its work: the database responds, its migrations are applied, and a worker runs."""

from collections.abc import Collection

from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from batches.conf import worker_command
from batches.models import OUTDATED, Worker

#: The checks that can be left out. The database is always checked.
CHECKS = frozenset({"migrations", "worker"})


def find_obstacle(excluded: Collection[str] = ()) -> str:
    """The reason why the application is not ready, and the remedy; "" if it is ready. Raises the database's errors."""
    if "migrations" not in excluded and has_pending_migrations():
        return OUTDATED
    if "worker" not in excluded and not Worker.objects.alive().exists():
        return f"No worker has sent a heartbeat within BATCHES_LEASE_SECONDS. Start one: {worker_command()}"
    return ""


def has_pending_migrations() -> bool:
    """It takes a query, and 10 ms to list the migrations."""
    executor = MigrationExecutor(connection)
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))

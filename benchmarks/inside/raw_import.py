"""Stores a list in the project's tables as one would by hand: executemany with the database's own driver, or COPY."""

import time
from pathlib import Path
from typing import Any

from django.db import connection, models, transaction

from batches.models import Batch, BatchProfile, Profile

GIVEN = {"url", "batch_id", "profile_id"}


def measure(file: str, method: str) -> dict[str, float]:
    """New profiles, then the same ones for a second batch. Each in one transaction."""
    speeds = {}
    for name in ("new profiles/s", "known profiles/s"):
        started = time.perf_counter()
        urls = Path(file).read_text().split()
        with transaction.atomic():
            batch = Batch.objects.create(name="Raw", status=Batch.Status.PAUSED, total_profiles=len(urls))
            METHODS[method](urls, BatchProfile._meta.get_field("batch").get_db_prep_save(batch.pk, connection))
        speeds[name] = len(urls) / (time.perf_counter() - started)
        assert batch.profiles.count() == len(urls)
    return speeds


def execute_many(urls: list[str], batch: Any) -> None:
    """Store with executemany. `?` and `%s` are the placeholders of the drivers without Django."""
    mark = "?" if connection.vendor == "sqlite" else "%s"
    profile, row = defaults_of(Profile), defaults_of(BatchProfile)
    cursor = connection.connection.cursor()
    cursor.executemany(
        f"INSERT INTO {Profile._meta.db_table} (url, {', '.join(profile)}) "
        f"VALUES ({', '.join([mark] * (len(profile) + 1))}) ON CONFLICT (url) DO NOTHING",
        ((url, *profile.values()) for url in urls),
    )
    cursor.executemany(
        f"INSERT INTO {BatchProfile._meta.db_table} (batch_id, profile_id, {', '.join(row)}) "
        f"SELECT {mark}, id, {', '.join([mark] * len(row))} FROM {Profile._meta.db_table} WHERE url = {mark}",
        ((batch, *row.values(), url) for url in urls),
    )


def copy(urls: list[str], batch: Any) -> None:
    """COPY into a temporary table, then one statement for each table of the project."""
    profile, row = defaults_of(Profile), defaults_of(BatchProfile)
    cursor = connection.connection.cursor()
    cursor.execute("CREATE TEMPORARY TABLE wanted (number bigint, url text) ON COMMIT DROP")
    with cursor.copy("COPY wanted (number, url) FROM STDIN") as target:
        for numbered in enumerate(urls):
            target.write_row(numbered)
    cursor.execute(
        f"INSERT INTO {Profile._meta.db_table} (url, {', '.join(profile)}) "
        f"SELECT url, {', '.join(['%s'] * len(profile))} FROM wanted ORDER BY number ON CONFLICT (url) DO NOTHING",
        list(profile.values()),
    )
    cursor.execute(
        f"INSERT INTO {BatchProfile._meta.db_table} (batch_id, profile_id, {', '.join(row)}) "
        f"SELECT %s, profile.id, {', '.join(['%s'] * len(row))} "
        f"FROM wanted JOIN {Profile._meta.db_table} AS profile USING (url) ORDER BY number",
        [batch, *row.values()],
    )


METHODS = {"executemany": execute_many, "copy": copy}


def defaults_of(model: type[models.Model]) -> dict[str, Any]:
    """The missing columns with the values of a new row, without NULL and the database's own defaults."""
    values = {
        field.column: field.get_db_prep_save(field.get_default(), connection)
        for field in model._meta.concrete_fields
        if not (field.primary_key or field.has_db_default() or field.column in GIVEN)
    }
    return {column: value for column, value in values.items() if value is not None}

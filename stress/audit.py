"""The true history of the rows: triggers log each change of a row's status in the transaction of the change, with the
run token of the result and the status of the batch at that moment.
"""

import uuid
from collections.abc import Iterator
from typing import Any

from django.db import connection
from django.db.backends.signals import connection_created

from batches.models import Batch, BatchProfile, Partition, Profile

CHANGES = "stress_change"
BATCH, ROW, PROFILE = Batch._meta.db_table, BatchProfile._meta.db_table, Profile._meta.db_table

#: The token of the worker that leases the partition of the row.
TOKEN = f"""(SELECT lease_id FROM {Partition._meta.db_table} AS partition
              WHERE partition.batch_id = NEW.batch_id AND partition.number = NEW.partition)"""

TABLE = f"""
CREATE TABLE {CHANGES} (
    id {{key}} PRIMARY KEY,
    row_id bigint NOT NULL,
    profile_id bigint NOT NULL,
    was text NOT NULL,
    became text NOT NULL,
    batch_status text,
    token text,
    given text
)
"""

INSERT = f"""
INSERT INTO {CHANGES} (row_id, profile_id, was, became, batch_status, token, given)
SELECT NEW.id, NEW.profile_id, OLD.status, NEW.status, batch.status, {{token}}, {{given}}
  FROM {BATCH} AS batch WHERE batch.id = NEW.batch_id
"""

SQLITE = [
    TABLE.format(key="integer"),
    f"CREATE TRIGGER {CHANGES} AFTER UPDATE OF status ON {ROW} BEGIN "
    f"{INSERT.format(token=TOKEN, given='stress_token()')}; END",
]
POSTGRESQL = [
    TABLE.format(key="bigserial"),
    f"CREATE FUNCTION {CHANGES}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    + INSERT.format(token=f"replace({TOKEN}::text, '-', '')", given="current_setting('stress.token', true)")
    + "; RETURN NEW; END $$",
    f"CREATE TRIGGER {CHANGES} AFTER UPDATE OF status ON {ROW} FOR EACH ROW EXECUTE FUNCTION {CHANGES}()",
]

RESULTS = "became <> 'pending'"

BREACHES = {
    "recorded twice": f"{RESULTS} AND was <> 'pending'",
    "recorded with a token that was not current": f"{RESULTS} AND (token IS NULL OR given IS NULL OR token <> given)",
    "recorded while its batch was not running": f"{RESULTS} AND batch_status <> 'running'",
}

_token = ""


def install() -> None:
    sign_connections()
    connection.close()
    with connection.cursor() as cursor:
        for statement in SQLITE if connection.vendor == "sqlite" else POSTGRESQL:
            cursor.execute(statement)


def sign_connections() -> None:
    """Let SQLite's trigger read the token that this process records with."""
    connection_created.connect(_sign, dispatch_uid="stress")


def _sign(connection: Any, **_: Any) -> None:
    if connection.vendor == "sqlite":
        connection.connection.create_function("stress_token", 0, lambda: _token)


def sign(token: uuid.UUID) -> None:
    """Set the token of the next results on this connection."""
    global _token
    _token = token.hex
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('stress.token', %s, false)", [_token])


def breaches() -> Iterator[str]:
    for what, condition in BREACHES.items():
        found = _query(f"SELECT row_id FROM {CHANGES} WHERE {condition} ORDER BY id")
        if found:
            yield f"results {what}: {len(found)}, first in row {found[0][0]}"


def results_by_url() -> dict[str, int]:
    return dict(
        _query(
            f"SELECT profile.url, COUNT(*) FROM {CHANGES} AS change JOIN {PROFILE} AS profile "
            f"ON profile.id = change.profile_id WHERE {RESULTS} GROUP BY profile.url"
        )
    )


def _query(sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())

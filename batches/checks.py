"""System checks: what would go wrong later is told at start, with what to type instead."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from .conf import get_config

#: RETURNING came with it.
OLDEST_SQLITE = (3, 35)
#: Before it, two connections that write and checkpoint at the same moment can, very rarely, damage the file:
#: https://sqlite.org/wal.html#walresetbug
SOUND_SQLITE = (3, 51, 3)

OTHER_DATABASE = "Use a Python that is built with a newer one, or PostgreSQL: DATABASE_URL=postgres://…"


@register()
def check_config(**kwargs: Any) -> list[CheckMessage]:
    try:
        problems = get_config().problems()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="batches.E001")]
    return [Error(problem, id="batches.E002") for problem in problems]


@register()
def check_sqlite(**kwargs: Any) -> list[CheckMessage]:
    if connections["default"].vendor != "sqlite":
        return []
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        problem = f"SQLite {sqlite3.sqlite_version} is too old: 3.35 is needed."
        return [Error(problem, hint=OTHER_DATABASE, id="batches.E003")]
    options = connections["default"].settings_dict.get("OPTIONS", {})
    if str(options.get("transaction_mode")).upper() != "IMMEDIATE":
        return [
            Warning(
                "SQLite's transactions begin without its write lock: under load they fail with “database is locked”.",
                hint='Write in DATABASES["default"]: "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20}',
                id="batches.W001",
            )
        ]
    return []


@register(Tags.database)
def check_wal_reset_bug(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """With the checks of the database, so at `migrate` and `check --database default`, not at each command."""
    is_sound = sqlite3.sqlite_version_info >= SOUND_SQLITE
    if is_sound or "default" not in (databases or ()) or connections["default"].vendor != "sqlite":
        return []
    problem = f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug: very rarely, it damages a database under load."
    return [Warning(problem, hint=f"3.51.3 mends it. {OTHER_DATABASE}", id="batches.W002")]

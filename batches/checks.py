"""System checks: problems that would appear later are reported at start, with the setting that solves them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from .conf import get_config

#: The first version with RETURNING.
OLDEST_SQLITE = (3, 35)
#: In older versions, two connections that write and checkpoint at the same moment can, very rarely, corrupt the file:
#: https://sqlite.org/wal.html#walresetbug
SOUND_SQLITE = (3, 51, 3)

OTHER_DATABASE = "Use a Python built with a newer SQLite, or PostgreSQL: DATABASE_URL=postgres://…"


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
        problem = f"SQLite {sqlite3.sqlite_version} is too old. Version 3.35 or newer is required."
        return [Error(problem, hint=OTHER_DATABASE, id="batches.E003")]
    options = connections["default"].settings_dict.get("OPTIONS", {})
    if str(options.get("transaction_mode")).upper() != "IMMEDIATE":
        return [
            Warning(
                "SQLite transactions start without the write lock. Under load they fail with “database is locked”.",
                hint='Add to DATABASES["default"]: "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20}',
                id="batches.W001",
            )
        ]
    return []


@register(Tags.database)
def check_wal_reset_bug(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """A database check: it runs at `migrate` and `check --database default`, not before every command."""
    is_sound = sqlite3.sqlite_version_info >= SOUND_SQLITE
    if is_sound or "default" not in (databases or ()) or connections["default"].vendor != "sqlite":
        return []
    problem = f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug: under load it can, very rarely, corrupt a file."
    return [Warning(problem, hint=f"Version 3.51.3 fixes it. {OTHER_DATABASE}", id="batches.W002")]

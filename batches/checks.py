"""System checks: nonsense in the `BATCHES` setting is told at start, with what to type instead."""

import sqlite3
from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from .conf import get_config

#: RETURNING came with it.
OLDEST_SQLITE = (3, 35)


@register()
def check_config(**kwargs: Any) -> list[CheckMessage]:
    try:
        problems = get_config().problems()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="batches.E001")]
    return [Error(problem, id="batches.E002") for problem in problems]


@register()
def check_sqlite(**kwargs: Any) -> list[CheckMessage]:
    if connection.vendor != "sqlite" or sqlite3.sqlite_version_info >= OLDEST_SQLITE:
        return []
    hint = "Use a Python that is built with a newer one, or PostgreSQL: DATABASE_URL=postgres://…"
    return [Error(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 is needed.", hint=hint, id="batches.E003")]

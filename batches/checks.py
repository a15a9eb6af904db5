"""System checks report problems at start that would appear later, with the setting that solves them."""

import sqlite3
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import PermissionsMixin
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, router

from .conf import get_config, install_command
from .models import Subscription

#: The tag of the checks that every command runs. Django's own checks would import the admin and the API, which takes
#: longer than most commands: `manage.py check` and the web server run them.
TAG = "batches"

#: The first version with RETURNING.
OLDEST_SQLITE = (3, 35)
#: In older versions, two connections that write and checkpoint at the same moment can, very rarely, corrupt the file:
#: https://sqlite.org/wal.html#walresetbug
SOUND_SQLITE = (3, 51, 3)

#: The apps of other packages that pages and commands need.
NEEDED_APPS = ("django.contrib.humanize", "drf_spectacular_sidecar")

OTHER_DATABASE = "Use a Python built with a newer SQLite, or PostgreSQL: DATABASE_URL=postgres://…"


@register(TAG)
def check_config(**kwargs: Any) -> list[CheckMessage]:
    try:
        problems = get_config().problems()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="batches.E001")]
    return [Error(problem, id="batches.E002") for problem in problems]


@register(TAG)
def check_project(**kwargs: Any) -> list[CheckMessage]:
    """Check the settings of the project that the app needs."""
    problems: list[CheckMessage] = [
        Error(f"{name!r} is not in INSTALLED_APPS.", hint=f'Add "{name}" to INSTALLED_APPS.', id="batches.E004")
        for name in NEEDED_APPS
        if not apps.is_installed(name)
    ]
    if not settings.USE_TZ:
        problem = "USE_TZ is off. Heartbeats and expected times would be wrong by hours when the clocks change."
        problems.append(Error(problem, hint="Set USE_TZ = True.", id="batches.E005"))
    user = get_user_model()
    if not issubclass(user, PermissionsMixin) or "is_active" not in {field.name for field in user._meta.fields}:
        problem = f"The user model {user._meta.label} lacks permissions or the field is_active."
        hint = "Derive it from AbstractUser, or from AbstractBaseUser and PermissionsMixin with a field is_active."
        problems.append(Error(problem, hint=hint, id="batches.E006"))
    return problems


@register(TAG)
def check_executor(**kwargs: Any) -> list[CheckMessage]:
    if _read_setting("EXECUTOR") != "celery" or find_spec("celery") is not None:
        return []
    problem = "BATCHES['EXECUTOR'] is 'celery', but Celery is not installed."
    return [Error(problem, hint=f"Run: {install_command('celery')}", id="batches.E008")]


def _read_setting(key: str) -> Any:
    """`get_config` would raise what batches.E001 reports."""
    return getattr(settings, "BATCHES", {}).get(key)


@register(TAG)
def check_routers(**kwargs: Any) -> list[CheckMessage]:
    """Hand-written statements and locks use the default database, and tokens and stored responses refer to users."""
    models = [*apps.get_app_config("batches").get_models(), get_user_model()]
    elsewhere = sorted(
        model._meta.label
        for model in models
        if {router.db_for_read(model), router.db_for_write(model)} != {DEFAULT_DB_ALIAS}
    )
    if not elsewhere:
        return []
    problem = f"DATABASE_ROUTERS do not keep these in the database “{DEFAULT_DB_ALIAS}”: {', '.join(elsewhere)}."
    hint = f'Let db_for_read and db_for_write return "{DEFAULT_DB_ALIAS}" for them.'
    return [Error(problem, hint=hint, id="batches.E007")]


@register(TAG)
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
def check_base_url(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """A database check. Messages without links are sent, too."""
    if "default" not in (databases or ()) or _read_setting("BASE_URL") or not _has_subscriptions():
        return []
    problem = "There are subscriptions, but BATCHES_BASE_URL is not set: their messages have no links."
    hint = "Set it to the address at which people reach the site, such as https://batches.example.org."
    return [Warning(problem, hint=hint, id="batches.W003")]


def _has_subscriptions() -> bool:
    try:
        return Subscription.objects.exists()
    except DatabaseError:  # before the first migration
        return False


@register(Tags.database, deploy=True)
def check_wal_reset_bug(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Runs only for `check --deploy --database default`: the bug is very rare, and most distributions have it."""
    is_sound = sqlite3.sqlite_version_info >= SOUND_SQLITE
    if is_sound or "default" not in (databases or ()) or connections["default"].vendor != "sqlite":
        return []
    problem = f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug: under load it can, very rarely, corrupt a file."
    return [Warning(problem, hint=f"Version 3.51.3 fixes it. {OTHER_DATABASE}", id="batches.W002")]

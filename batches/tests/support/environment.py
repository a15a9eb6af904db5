"""Keeps the developer's environment variables out of the tests.

A pytest plugin: `-p` in pytest.ini loads it before pytest-django loads the settings, which read the environment and
would write a new secret key into `var/`.
"""

import os
import secrets
from collections.abc import MutableMapping

READ_BY_SETTINGS = {
    "API_ANONYMOUS_RATE",
    "API_PROXIES",
    "API_RATE",
    "ALLOWED_HOSTS",
    "CSRF_TRUSTED_ORIGINS",
    "DATABASE_URL",
    "DEBUG",
    "HSTS_PRELOAD",
    "HSTS_SECONDS",
    "HTTPS",
    "LOG_LEVEL",
    "SECRET_KEY",
    "STATIC_ROOT",
    "TIME_ZONE",
}
READ_BY_COMMANDS = {"DEMO_PORT", "NO_COLOR", "PORT"}
# libpq and Django's own commands read the last two.
PREFIXES = ("BATCHES_", "DJANGO_", "PG")

GIVEN = {
    # New in each run: a key in the source code would not be secret, and the settings reject it.
    "SECRET_KEY": secrets.token_urlsafe(50),
    # A child process without an explicit database gets an empty one, never the developer's.
    "DATABASE_URL": "sqlite:///:memory:",
}


def isolate(environ: MutableMapping[str, str]) -> None:
    for name in list(environ):
        if name in READ_BY_SETTINGS | READ_BY_COMMANDS or name.startswith(PREFIXES):
            del environ[name]
    environ.update(GIVEN)


isolate(os.environ)

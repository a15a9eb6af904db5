"""Keeps the developer's shell out of the tests.

A pytest plugin: `-p` in pytest.ini loads it before pytest-django loads the settings, which read the environment, and
which would write a secret key into `var/` if none were given.
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
    # Another one in each run: one that is written here would be no secret, and is refused.
    "SECRET_KEY": secrets.token_urlsafe(50),
    # A child process that is not told which database to open gets an empty one, never the developer's.
    "DATABASE_URL": "sqlite:///:memory:",
}


def isolate(environ: MutableMapping[str, str]) -> None:
    for name in list(environ):
        if name in READ_BY_SETTINGS | READ_BY_COMMANDS or name.startswith(PREFIXES):
            del environ[name]
    environ.update(GIVEN)


isolate(os.environ)

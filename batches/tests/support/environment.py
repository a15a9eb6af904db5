"""Keeps the developer's environment variables out of the tests.

A pytest plugin: `-p` in pytest.ini loads it before pytest-django loads the settings, which read the environment and
would write a new secret key into `var/`.
"""

import os
import re
import secrets
import sys
from collections.abc import MutableMapping
from pathlib import Path

SETTINGS = Path(__file__).parents[3] / "batchproject" / "settings.py"
#: The names in `os.environ.get("STATIC_ROOT")`, `read_switch("DEBUG")` and the like.
READ_BY_SETTINGS = set(re.findall(r'(?:environ\.get|read_\w+)\(\s*"(\w+)"', SETTINGS.read_text()))
#: Containers often set it. Then each of the hundreds of processes compiles our modules again, for 0.4 s.
SLOWING = {"PYTHONDONTWRITEBYTECODE"}
READ_BY_COMMANDS = {"DATA_DIR", "DEMO_PORT", "MAKELEVEL", "NO_COLOR", "PORT", "PROGRAM"}
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
        if name in READ_BY_SETTINGS | READ_BY_COMMANDS | SLOWING or name.startswith(PREFIXES):
            del environ[name]
    environ.update(GIVEN)


isolate(os.environ)
sys.dont_write_bytecode = False

"""Where every process of the harness begins.

The fork server imports this module once, Django with it, and has no connection open: a process of its own, that can be
killed and frozen like any other, then costs 20 ms instead of a second.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import django

django.setup()

# What the children need, imported before they are forked.
import aiohttp  # noqa: E402, F401
import httpx  # noqa: E402, F401
import psycopg  # noqa: E402, F401
from django.conf import settings  # noqa: E402
from django.db import connections  # noqa: E402
from django.urls import get_resolver  # noqa: E402

import batches.checking.checkers.http  # noqa: E402
import batches.checking.worker  # noqa: E402, F401
from stress import audit, databases, mutants  # noqa: E402

get_resolver().url_patterns  # noqa: B018 — imports the admin and the API


@dataclass(frozen=True, slots=True)
class Setup:
    """On which database a process acts, with which keys of `BATCHES`, as which mutant, and where it logs."""

    url: str
    log: Path
    mutant: str = ""
    config: Mapping[str, Any] | None = None


Task = Callable[..., None]


def begin(task: Task, link: Connection, setup: Setup, *arguments: Any) -> None:
    """Do the task. What it raises is a breach: expected outcomes are returned."""
    _log_to(setup.log)
    databases.use(setup.url)
    settings.BATCHES = {**settings.BATCHES, **(setup.config or {})}
    mutants.apply(setup.mutant)
    audit.sign_connections()
    try:
        task(link, *arguments)
    except Exception as error:
        logging.getLogger("batches").exception("%s is ended by an error", task.__name__)
        place = traceback.extract_tb(error.__traceback__)[-1]
        link.send(("breach", f"{task.__name__} ended by {type(error).__name__}: {error} ({place.name})"))
        raise SystemExit(1) from error
    finally:
        connections.close_all()


def _log_to(path: Path) -> None:
    """In a file: what a killed worker writes on the harness's terminal helps nobody."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]

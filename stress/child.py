"""The entry point of every process of the harness.

The fork server imports this module and Django once, without opening a connection. A new process, which can be killed
and frozen like any other, then takes 20 ms instead of a second.
"""

import logging
import os
import random
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import django

django.setup()

# The children need these; import them before the fork.
import aiodns  # noqa: E402, F401
import httpx  # noqa: E402, F401
import psycopg  # noqa: E402, F401
import pycurl  # noqa: E402, F401
from django.conf import settings  # noqa: E402
from django.db import connections  # noqa: E402
from django.urls import get_resolver  # noqa: E402

import batches.checking.checkers.http  # noqa: E402
import batches.checking.worker  # noqa: E402, F401
from stress import audit, databases, mutants, namespaces  # noqa: E402

get_resolver().url_patterns  # noqa: B018 — imports the admin and the API


@dataclass(frozen=True, slots=True)
class Setup:
    """The database, the settings, the mutant, the log file, the seed and the network namespace of a process."""

    url: str
    log: Path
    mutant: str = ""
    config: Mapping[str, Any] | None = None
    seed: str = ""
    host: str = ""


Task = Callable[..., None]


def begin(task: Task, link: Connection, setup: Setup, *arguments: Any) -> None:
    """Run the task. An exception is a breach, because tasks return expected outcomes."""
    random.seed(setup.seed)
    if setup.host:
        namespaces.enter(setup.host)
    if "FAKETIME_TIMESTAMP_FILE" in os.environ:
        # When the clock jumps, libfaketime gives it a deadline that the kernel refuses (EINVAL).
        time.sleep = lambda seconds: threading.Event().wait(seconds)
    os.environ["PGAPPNAME"] = task.__name__  # PostgreSQL's name for the connections of this process
    # To a file, so that killed workers do not clutter the terminal.
    logging.basicConfig(filename=setup.log, format="%(asctime)s %(process)d %(levelname)s %(message)s", force=True)
    databases.use(setup.url)
    settings.BATCHES = {**settings.BATCHES, **(setup.config or {})}
    mutants.apply(setup.mutant)
    audit.sign_connections()
    try:
        task(link, *arguments)
    except Exception as error:
        logging.getLogger("batches").exception("%s failed", task.__name__)
        place = traceback.extract_tb(error.__traceback__)[-1]
        link.send(("breach", f"{task.__name__} failed with {type(error).__name__}: {error} ({place.name})"))
        raise SystemExit(1) from error
    finally:
        connections.close_all()

"""Describes the machine of a measurement, and the versions of everything that was measured or used."""

import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from batches.tests.support.postgres import PostgresUnavailableError, find_binaries, unprivileged_account
from benchmarks.commands import NODE_MODULES, PEER_PYTHON

OUR_PACKAGES = ("django", "psycopg", "pycurl", "aiodns", "lxml")
PEER_PACKAGES = (
    "huey", "django-q2", "django-tasks-db", "procrastinate", "celery", "dramatiq", "scrapy", "reader", "feedparser",
    "requests", "aiohttp", "pycurl", "fastfeedparser",
)  # fmt: skip
PROGRAMS = {
    "nginx": ["nginx", "-v"],
    "Redis": ["redis-server", "--version"],
    "newsboat": ["newsboat", "--version"],
    "Node.js": ["node", "--version"],
}
ASK_FOR_VERSIONS = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
print(json.dumps(found))
"""


def describe_machine() -> dict[str, str]:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def describe_versions() -> dict[str, str]:
    found = {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version, "PostgreSQL": _postgres_version()}
    found |= {name: version(name) for name in OUR_PACKAGES}
    found |= {
        f"{name} (of the others)" if name in OUR_PACKAGES else name: text for name, text in installed_peers().items()
    }
    return found | {name: text for name, command in PROGRAMS.items() if (text := _ask(command))}


def installed_peers() -> dict[str, str]:
    """The packages in the peers' environment with their versions; empty without it."""
    if not PEER_PYTHON.exists():
        return {}
    output = _run([str(PEER_PYTHON), "-c", ASK_FOR_VERSIONS, *PEER_PACKAGES])
    found: dict[str, str] = json.loads(output or "{}")
    package = NODE_MODULES / "graphile-worker" / "package.json"
    if package.exists():
        found["graphile-worker"] = json.loads(package.read_text())["version"]
    return found


def _postgres_version() -> str:
    """Of the server that the measurements start."""
    account = unprivileged_account()
    with TemporaryDirectory(dir="/tmp") as folder, suppress(PostgresUnavailableError):
        if account:
            os.chown(folder, account.pw_uid, account.pw_gid)
        return _ask([str(find_binaries(account, Path(folder)) / "postgres"), "--version"])
    return "not installed"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _ask(command: list[str]) -> str:
    number = re.search(r"\d+(\.\d+)+", _run(command)) if shutil.which(command[0]) else None
    return number[0] if number else ""


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr

"""Runs the project as its users do: `manage.py` in a separate process, on a new database."""

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.commands import Finished, manage, run
from benchmarks.frame import Figures
from benchmarks.services.databases import Databases

SECRET_KEY = secrets.token_urlsafe(50)
CHECKERS = {"BATCHES_CHECKERS": "noop=benchmarks.noop.NoopChecker,waiting=benchmarks.noop.WaitingChecker"}


class Project:
    """The project on one database."""

    def __init__(self, database: str, **settings: object) -> None:
        self.environment = {
            "DATABASE_URL": database,
            "SECRET_KEY": SECRET_KEY,
            "DJANGO_SETTINGS_MODULE": "batchproject.settings",
            "LOG_LEVEL": "WARNING",
            "BATCHES_ALLOWED_NETWORKS": "127.0.0.0/8",
            **CHECKERS,
            **{name: str(value) for name, value in settings.items()},
        }

    def manage(self, *arguments: object, stdin: str = "") -> Finished:
        return run(manage(*arguments), self.environment, stdin=stdin)

    def create(self, file: Path, checker: str = "feed", *more: object) -> str:
        """A batch from a list; its ID."""
        output = self.manage("batch", "create", file, "--checker", checker, "--json", *more).output
        return str(find_object(output)["id"])

    def check(self, batch_id: str, processes: int = 1) -> Finished:
        """Work until this batch is finished: the whole command."""
        return self.manage("batch", "run", "--resume", batch_id, f"--processes={processes}")

    def check_list(self, file: Path, processes: int = 1, prefix: Sequence[str] = ()) -> Finished:
        """From a list to a finished batch: the whole command, behind the `prefix` of a namespace."""
        command = manage("batch", "run", file, "--count-first", f"--processes={processes}")
        return run([*prefix, *command], self.environment)

    def newest_batch(self) -> dict[str, Any]:
        """Its fields, without its profiles and stories. No other batch must be queued."""
        output = self.manage("batch", "list", "--limit", 1, "--json").output
        found: list[dict[str, Any]] = json.loads(output[output.index("[") :])
        return found[0]

    def inside(self, module: str, **options: object) -> Figures:
        """The figures of a module in `inside/`, which calls the project's code in a separate process."""
        command = ["-m", "benchmarks.inside", module, json.dumps(options)]
        return run([manage()[0], *command], self.environment).figures


@contextmanager
def new_project(created: Databases, **settings: object) -> Iterator[Project]:
    """The project on a new database that has its tables."""
    with created.new() as database:
        project = Project(database, **settings)
        project.manage("migrate", "--verbosity=0")
        yield project


def find_object(output: str) -> dict[str, Any]:
    """The JSON object in the output of a command, which may contain other lines."""
    found: dict[str, Any] = json.loads(output[output.index("{") : output.rindex("}") + 1])
    return found


def run_seconds(details: dict[str, Any]) -> float:
    """From the claim of the batch to its completion, without the start of the process."""
    started, completed = (datetime.fromisoformat(details[name]) for name in ("started_at", "completed_at"))
    return (completed - started).total_seconds()


def require_complete(details: dict[str, Any], profiles: int, stories: int | None = None) -> None:
    """A speed counts only if all of the work was done."""
    assert details["status"] == "done", details["error"]
    assert details["total_profiles"] == profiles, details["total_profiles"]
    assert details["completed_profiles"] == profiles, details["completed_profiles"]
    assert stories is None or details["stories_found"] == stories, details["stories_found"]

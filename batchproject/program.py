"""The program `batches`, and `manage.py`, which is the same for a clone."""

import atexit
import fcntl
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from batches import __version__

USAGE = """\
batches {version} checks lists of public profiles regularly, and reports new stories.

  batches run FILE           check a list now, and print a summary
  batches serve --demo       try it: the web application, workers, and demo feeds
  batches createsuperuser    create an account to log in with
  batches serve              run the web application and workers, until Ctrl-C
  batches batchworker        run workers only
  batches batch, list, queue, profile, redirect, token
                             show and change everything: see `batches list --help`
  batches check --deploy     report what is missing for production
  batches migrate            update the database after an upgrade
  batches help --all         list all commands

The database and the secret key are in {directory}
Set DATA_DIR to keep them in another directory, or DATABASE_URL and SECRET_KEY.
"""


def main() -> None:
    """The program `batches`."""
    with usable_streams():
        match sys.argv[1:]:
            case [] | ["help"] | ["--help"] | ["-h"]:
                from .installation import find_data_directory

                print(USAGE.format(version=__version__, directory=find_data_directory()), end="")
            case ["version"] | ["--version"]:
                print(f"batches {__version__}")
            case ["help", "--all"]:
                execute(["batches", "help"])
            case arguments:
                execute(["batches", *arguments], create_tables_on_first_use)


@contextmanager
def usable_streams() -> Iterator[None]:
    """Open a file for each stream that the caller closed: otherwise the next file, the database, gets its number.

    Writing to the replacement of the output raises an error, so that a secret that is shown once is not lost.
    The program ends quietly if the reader of its output, such as `head`, stops reading.
    """
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull)  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    try:
        with suppress(BrokenPipeError):
            yield
    finally:
        try:
            sys.stdout.flush()  # Python would print a traceback at exit if the rest cannot be written
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python tries again
            if not isinstance(error, BrokenPipeError):
                sys.exit(f"Cannot write the output: {error.strerror}.")


def execute(line: Sequence[str], prepare: Callable[[], None] = lambda: None) -> None:
    """Run a command of Django or of the app, given the program's name and its arguments; `run` is `batch run`.

    Ends with a clear message if the settings are not valid, or the database cannot be used, and after Ctrl-C.
    """
    try:
        execute_uninterrupted(line, prepare)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)


def execute_uninterrupted(line: Sequence[str], prepare: Callable[[], None]) -> None:
    program, *arguments = line
    if arguments[:1] == ["run"]:
        arguments = ["batch", *arguments]
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "batchproject.settings")
    collect_seldom()
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
        from django.db import Error
    except ImportError:
        sys.exit("Django is not installed here. Run `make setup`, then .venv/bin/python manage.py …")
    try:
        prepare()
        execute_from_command_line([program, *arguments])
    except ImproperlyConfigured as error:
        sys.exit(f"Invalid settings. {error}")
    except Error:
        if fault := find_fault_of_database(arguments):
            sys.exit(f"CommandError: {fault}")
        raise


def find_fault_of_database(arguments: Sequence[str]) -> str:
    """Why a command of Django failed that needs the database, such as `createsuperuser`; "" if it is another reason."""
    from django.db import Error, connection

    from batches.models import OUTDATED
    from batches.reports.readiness import has_pending_migrations
    from batches.web.outages import describe_outage_to_operator

    try:
        connection.ensure_connection()
        return str(OUTDATED) if arguments[:1] != ["migrate"] and has_pending_migrations() else ""
    except Error as error:
        return describe_outage_to_operator(error)


def collect_seldom() -> None:
    """Collect garbage less often: during imports and at exit, it took a fifth of the time of a short command."""
    from batches.limits import GARBAGE_THRESHOLDS

    gc.set_threshold(*GARBAGE_THRESHOLDS)
    atexit.register(gc.freeze)


def create_tables_on_first_use() -> None:
    """Create the tables, so that `batches run` works right after the installation.

    Only in our own, empty SQLite file.
    """
    import django
    from django.conf import settings
    from django.core.management import call_command

    path: Path | None = getattr(settings, "OWN_DATABASE", None)
    if path is None:
        return
    with locked(path.parent):  # if two processes start, the second one waits for the tables
        if path.stat().st_size == 0:
            django.setup()
            call_command("migrate", verbosity=0)
            print(f"Created the database {path}", file=sys.stderr)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

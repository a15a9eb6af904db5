"""The base classes of commands: their actions, shared arguments, output, and checks before they start."""

import errno
import getpass
import os
import socket
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from io import TextIOWrapper
from pathlib import Path
from string import hexdigits
from typing import Any, Literal, TypeVar
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper
from django.db import Error
from django.db.models import Model, QuerySet
from django.template import Engine
from django.utils.translation import override

from batches.batch_manager import BatchManager
from batches.checks import TAG
from batches.conf import command_line, get_config
from batches.limits import MAX_WANTED
from batches.lists.addresses import InvalidAddress, normalise_address
from batches.lists.imports import ImportResult
from batches.management.output import MAX_SHOWN
from batches.management.tables import Columns, tabulate
from batches.models import Action, Batch, Channel, Profile, ProfileList, is_database_fault
from batches.models.public_fields import as_dict, as_json, batch_as_dict
from batches.queue.forgetting import find_profile
from batches.queue.refusals import Refusal, refusable
from batches.queue.transitions import RULES
from batches.reports.queries import match_host
from batches.reports.readiness import has_pending_migrations
from batches.text import clean_text, pluralise, printable, stored_line
from batches.web.outages import describe_outage_to_operator

T = TypeVar("T")
R = TypeVar("R", bound=Model)
Act = Callable[..., None]

# Arguments that several actions share: parents of their parsers.
JSON, ID, HOST = (ArgumentParser(add_help=False) for _ in range(3))
JSON.add_argument("--json", action="store_true", dest="as_json", help="Print JSON.")
#: The engine of the terminal. Django's own imports the tags of every app, which took a sixth of a short command.
TEMPLATES = Engine(
    app_dirs=True,
    libraries={
        "humanize": "django.contrib.humanize.templatetags.humanize",
        "batches_terminal": "batches.templatetags.batches_terminal",
    },
)

LAST_PORT = 65_535
SHORT_ID = "You can shorten an ID to its first four characters."
ID.add_argument("id", help=SHORT_ID)
HOST.add_argument("--host", metavar="HOST", help="Only profiles that are at this host now.")


class Output(OutputWrapper):
    """Lets the command continue when its reader, such as `head`, stops reading. Other errors raise CommandError."""

    _out: Any
    #: The reader stopped before the end.
    is_lost = False

    def write(self, *args: Any, **options: Any) -> None:  # type: ignore[override]
        with self._faults():
            super().write(*args, **options)

    def flush(self) -> None:
        with self._faults():
            super().flush()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self._discard()
            self.is_lost = True
        except OSError as error:  # the disk is full, or the output closed
            self._discard()
            reason = error.strerror or error
            message = f"Cannot write the output: {reason}. See what was done before you repeat the command."
            raise CommandError(message) from error

    def _discard(self) -> None:
        """Drop the unwritten output: Python would try again at exit, and print an error."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())


class DatabaseCommand(BaseCommand):
    """A command that ends with a clear message if the database does not respond or lacks migrations."""

    requires_migrations_checks = True
    requires_system_checks: list[str] | Literal["__all__"] = [TAG]

    stdout: Output
    stderr: Output

    def __init__(self, stdout: Any = None, stderr: Any = None, **options: Any) -> None:
        super().__init__(stdout, stderr, **options)
        self.stdout, self.stderr = Output(stdout or sys.stdout), Output(stderr or sys.stderr)
        self.stderr.style_func = self.style.ERROR

    def check_migrations(self) -> None:
        if has_pending_migrations():
            raise CommandError(f"The database is not up to date. Run: {command_line('migrate')}")

    def create_parser(self, *args: Any, **options: Any) -> CommandParser:
        with override("en"):  # commands speak English in every project
            return super().create_parser(*args, **options)

    def execute(self, *args: Any, **options: Any) -> str | None:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a name may contain characters that this terminal cannot show
        try:
            with override("en"):
                return super().execute(*args, **options)
        except Error as error:
            if not is_database_fault(error):
                raise
            raise CommandError(describe_outage_to_operator(error)) from error
        except CommandError as error:
            if type(error) is CommandError:  # the message may quote a name; Django's own messages have colours
                error.args = (printable(str(error)),)
            raise
        finally:
            self.stdout.flush()

    def require_delivered(self) -> None:
        """Raises CommandError if nobody reads the output, which has a secret that is shown only once."""
        self.stdout.flush()
        if getattr(self.stdout, "is_lost", False):
            raise CommandError("The output is closed, so the secret would be lost. Nothing was created.")


class ActionCommand(DatabaseCommand):
    """A command with subcommands, called actions. A refused action exits with status 1 and its reason on stderr."""

    def add_arguments(self, parser: CommandParser) -> None:
        self._actions: Any = parser.add_subparsers(required=True, metavar="ACTION")

    def add_action(self, name: str, act: Act, description: str, *parents: ArgumentParser) -> ArgumentParser:
        """The parser of an action; `act` is called with the command and the options."""
        texts = {"help": description, "description": description}
        parser: ArgumentParser = self._actions.add_parser(name, parents=parents, **texts)
        parser.set_defaults(act=act)
        return parser

    @contextmanager
    def adding_to(self, parser: ArgumentParser) -> Iterator[None]:
        """Within the block, add actions of an action."""
        outer, self._actions = self._actions, parser.add_subparsers(required=True, metavar="ACTION")
        yield
        self._actions = outer

    def handle(self, *args: Any, act: Act, **options: Any) -> None:
        try:
            act(self, **options)
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=130) from None

    @cached_property
    def manager(self) -> BatchManager:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # the user of a container may not have a name
            user = ""
        return BatchManager(actor=user, channel=Channel.COMMAND)

    def require_accepted(self, outcome: T | Refusal) -> T:
        """The outcome of a call of the manager. Raises CommandError for a refusal."""
        if isinstance(outcome, Refusal):
            raise CommandError(printable(outcome.message))
        return outcome

    def report_refused(self, reasons: Sequence[str]) -> None:
        """After a call for each of several: print the reasons of refusals, if any, and exit with status 1."""
        for reason in reasons:
            self.stderr.write(printable(reason))
        if reasons:
            raise SystemExit(1)

    def report_queued(self, batch: Batch) -> None:
        total = pluralise(batch.total_profiles, "profile")
        place = f"at position {batch.position:,} with {total}"
        self.stdout.write(f"Queued “{printable(batch.name)}” {place}: {batch.pk}")

    def conclude_new(self, batch: Batch, now: bool, as_json: bool) -> None:
        """Start a new batch `now` if wanted, and print it as JSON if wanted. Raises CommandError if it has to wait."""
        outcome = self.manager.start_batch(batch.pk, preempt=True) if now else True
        batch.refresh_from_db()
        if as_json:
            self.print_json(batch_as_dict(batch))
        elif now and outcome:
            self.stdout.write(RULES[Action.START_BATCH].describe_success(printable(batch.name)))
        self.require_accepted(outcome)

    def find_batch(self, batch_id: str) -> Batch:
        """The batch with this ID, or with the only ID that starts like this. Raises CommandError."""
        missing = f"No batch has the ID {batch_id[:MAX_WANTED]!r}. List the batches: {command_line('batch list')}"
        return find_by_id(Batch.objects.all(), "batches", batch_id, missing)

    def find_list(self, wanted: str) -> ProfileList:
        """The list with this name, with this ID, or with the only ID that starts like this. Raises CommandError."""
        named = ProfileList.objects.filter(name=stored_line(wanted)).first()
        if named is not None:
            return named
        advice = f"Show the lists: {command_line('list show')}"
        missing = f"No list has the name or ID {clean_text(wanted, MAX_WANTED)!r}. {advice}"
        return find_by_id(ProfileList.objects.all(), "lists", wanted, missing)

    def find_profile(self, wanted: str) -> Profile:
        if wanted.isdigit():
            return self.require_accepted(refusable(find_profile)(wanted))
        try:
            url = normalise_address(wanted)
        except InvalidAddress as error:
            raise CommandError(f"{printable(wanted)[:100]} is neither an address nor an ID: {error}") from error
        found = Profile.objects.filter(url=url).first()
        if found is None:
            raise CommandError(f"No profile has the address {printable(url)}.")
        return found

    def filter_by_host(self, rows: QuerySet[R], field: str, host: str | None) -> QuerySet[R]:
        """The rows with an address, in this field, at the host; all without a host. Raises CommandError."""
        try:
            return rows.filter(match_host(field, host)) if host else rows
        except InvalidAddress as error:
            raise CommandError(f"{printable(str(host))[:100]}: {error}") from error

    def report_import(self, result: ImportResult, out: Any) -> None:
        profiles, duplicates = pluralise(len(result.profiles), "profile"), pluralise(result.duplicates, "duplicate")
        out.write(f"{profiles}, {duplicates}, {pluralise(len(result.rejects), 'rejected line')}\n")
        for reject in result.rejects[:MAX_SHOWN]:
            self.stderr.write(f"  line {reject.line}: {reject.reason} ({printable(reject.text)[:80]})")
        if (more := len(result.rejects) - MAX_SHOWN) > 0:
            self.stderr.write(f"  and {more:,} more")

    def print_rows(self, rows: Any, columns: Columns, otherwise: str, count: Callable[[], int] = lambda: 0) -> None:
        """Print rows as a table, or say that nothing was found.

        `count` returns the number of all rows, of which these are the first.
        """
        if not rows:
            self.stdout.write(otherwise)
            return
        self.print_lines(tabulate(columns, rows))
        if (more := count() - len(rows)) > 0:
            self.stdout.write(f"and {more:,} more; show all with --limit")

    def print_things(
        self,
        as_json: bool,
        things: Any,
        fields: Sequence[str],
        columns: Columns,
        otherwise: str,
        count: Callable[[], int] = lambda: 0,
    ) -> None:
        """Print as JSON with these public fields, or like `print_rows`."""
        if as_json:
            self.print_json([as_dict(thing, fields) for thing in things])
        else:
            self.print_rows(things, columns, otherwise, count)

    def print_result(self, as_json: bool, value: Any, text: str) -> None:
        """Print the value as JSON, or the text."""
        if as_json:
            self.print_json(value)
        else:
            self.stdout.write(text)

    def print_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.stdout.write(line)

    def write_export(self, lines: Iterable[str], output: Path | None) -> None:
        """Write the lines of an export to a file, or to standard output. Raises CommandError."""
        if output is None:
            if isinstance(sys.stdout, TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8")  # the import reads UTF-8, whatever the terminal uses
            at_terminal = self.stdout.isatty()
            for line in lines:
                shown = "".join(f"{printable(part)}\n" for part in line.splitlines()) if at_terminal else line
                self.stdout.write(shown, ending="")
                if self.stdout.is_lost:  # the reader has stopped
                    break
            return
        try:
            with output.open("w", encoding="utf-8", newline="") as file:
                file.writelines(lines)
        except OSError as error:
            raise CommandError(f"Cannot write {output}: {error.strerror}") from error

    def print_template(self, name: str, context: dict[str, Any]) -> None:
        self.stdout.write(TEMPLATES.render_to_string(f"batches/terminal/{name}.txt", context), ending="")

    def print_json(self, value: Any) -> None:
        self.stdout.write(as_json(value, indent=2))


def add_export_options(parser: ArgumentParser, formats: Iterable[str]) -> None:
    parser.add_argument("--format", choices=list(formats), default="csv")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Output file (default: standard output).")


def add_now(parser: Any) -> None:
    """Add --now to the parser, or to a group of options that exclude each other."""
    text = "Start it at once; a running batch goes back to the front of the queue and continues afterwards."
    parser.add_argument("--now", action="store_true", help=text)


def add_values(parser: ArgumentParser) -> None:
    """Add --priority and --checker, for a new batch or for the runs of a list."""
    parser.add_argument("--priority", type=int, default=0, help="Higher goes first (default: 0).")
    parser.add_argument("--checker", choices=list(get_config().all_checkers), default="feed")


def add_limit(parser: ArgumentParser, noun: str) -> None:
    parser.add_argument("--limit", type=count, default=50, help=f"Maximum number of {noun} (default: %(default)s).")


def number_to(maximum: int, description: str) -> Callable[[str], int]:
    """For argparse: a number from 1 to the maximum."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= maximum):
            raise ArgumentTypeError(f"{text!r} is not {description}.")
        return int(text)

    return parse


count = number_to(1_000_000, "a whole number from 1 to 1,000,000")
port_number = number_to(LAST_PORT, f"a valid port number (1 to {LAST_PORT})")


def start_command(demo: bool = True) -> str:
    """The command that started the web application and the workers: `make run`, or `serve`."""
    return "make run" if demo and "MAKELEVEL" in os.environ else command_line(f"serve{' --demo' if demo else ''}")


def require_free_port(host: str, port: int, remedy: str) -> None:
    """Raises CommandError if nothing can listen there, with the remedy if the port is in use."""
    if port > LAST_PORT:  # the last of several consecutive ports
        raise CommandError(f"Port {port} does not exist; the last one is {LAST_PORT}. {remedy}")
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandError(f"Port {port} is in use. {remedy}") from error
        reason = str(error.strerror).partition(" (while")[0]  # the rest repeats the address
        raise CommandError(f"Cannot listen on {host}, port {port}: {reason}.") from error


def find_by_id(rows: QuerySet[R], nouns: str, wanted: str, missing: str) -> R:
    """The row with this ID, or with the only ID that starts like this. Raises CommandError."""
    digits, matches = wanted.strip().replace("-", ""), list[R]()
    if 4 <= len(digits) <= 32 and not set(digits) - set(hexdigits):
        matches = [*rows.filter(pk__range=(UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))))[:2]]
    if not matches:
        raise CommandError(missing)
    if len(matches) > 1:
        raise CommandError(f"Several {nouns} have an ID that starts with {wanted!r}. Enter more characters.")
    return matches[0]

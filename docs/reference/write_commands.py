"""Writes the reference page of the commands from their help: `make reference`."""

import os
import sys
from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "commands.md"
#: Options that Django gives to each command.
DJANGOS = {
    *("--help", "--version", "--verbosity", "--settings", "--pythonpath", "--traceback", "--no-color"),
    *("--force-color", "--skip-checks"),
}

HEAD = """\
# Commands

<!-- Written by `make reference` from the commands' own help. -->

`batches` is the program of the [package](../how-to/install.md). In a clone it is `.venv/bin/python manage.py`, in
your own project `python manage.py`. `batches run` is short for `batches batch run`.

- *ID* is the ID of a batch, *LIST* the name or the ID of a list. You can shorten an ID to its first four characters.
- *FILE* is a list of profiles as [text, CSV, OPML or JSON](lists.md), or `-` for standard input.
- With `--json`, the output is for programs, with the field names of the [API](api.md). Messages go to standard error.
- The exit status is 0 if everything was done, and 1 if something was refused or failed, with the reason on standard
  error. `batch run` also exits with 1 if the batch ended with an error or every profile failed to connect, and with 130
  after Ctrl-C.

"""


def write() -> str:
    """The page."""
    from django.core.management import get_commands, load_command_class

    names = sorted(name for name, app in get_commands().items() if app == "batches" and name != "dumpdata")
    return HEAD + "\n".join(
        line
        for name in names
        for line in describe(load_command_class("batches", name).create_parser("batches", name), name)
    )


def describe(parser: ArgumentParser, name: str, level: int = 2) -> Iterator[str]:
    groups = [action for action in parser._actions if isinstance(action, _SubParsersAction)]
    yield from (f"{'#' * level} {name}", "")
    for group in groups:
        for part, subparser in group.choices.items():
            yield from describe(subparser, f"{name} {part}", 3)
    if not groups:
        yield from describe_call(parser, name)


def describe_call(parser: ArgumentParser, name: str) -> Iterator[str]:
    actions = [action for action in parser._actions if is_ours(action)]
    yield from (" ".join((parser.description or "").split()), "")
    yield from ("```text", *wrap(f"batches {name}", map(usage_of, actions)), "```", "")
    explained = [f"- `{name_of(action)}`: {text}" for action in actions if (text := explain(action))]
    yield from (*explained, *([""] if explained else []))


def is_ours(action: Action) -> bool:
    return action.help != SUPPRESS and not DJANGOS & set(action.option_strings)


def explain(action: Action) -> str:
    text = " ".join((action.help or "").split()) % {"default": action.default, "prog": "batches"}
    one_of = f"One of {', '.join(f'`{choice}`' for choice in action.choices)}." if action.choices else ""
    return " ".join(part for part in (text, one_of) if part)


def name_of(action: Action) -> str:
    return ", ".join(action.option_strings) or value_of(action)


def value_of(action: Action) -> str:
    return str(action.metavar or action.dest).upper()


def usage_of(action: Action) -> str:
    if action.option_strings:
        value = "" if action.nargs == 0 else f" {value_of(action)}"
        return f"[{' | '.join(action.option_strings)}{value}]"
    return {"?": "[{}]", "*": "[{} …]", "+": "{} …"}.get(str(action.nargs), "{}").format(value_of(action))


def wrap(command: str, parts: Iterator[str], width: int = 100) -> Iterator[str]:
    line = command
    for part in parts:
        if len(line) + len(part) >= width:
            yield line
            line = " " * len(command)
        line += f" {part}"
    yield line


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "batchproject.settings")
    import django

    django.setup()
    PAGE.write_text(write())

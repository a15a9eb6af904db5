"""`make messages`: collects the texts of the admin into the catalogue, with GNU gettext."""

import os

import django
from django.core.management import call_command
from django.core.management.commands import makemessages

LANGUAGES = ["de"]
#: Folders without texts of the admin.
IGNORED = ["tests", "migrations", "management", "benchmarks", "stress", "docs", "examples", "deploy", "var"]


class Command(makemessages.Command):
    """Also collects the texts that a page translates later: see `batches.text`."""

    xgettext_options = [*makemessages.Command.xgettext_options, "--keyword=Sentence:1", "--keyword=choose_plural:1,2"]


def collect() -> None:
    """Into the catalogue below the current directory."""
    options = {"no_wrap": True, "no_obsolete": True, "add_location": "file", "verbosity": 0}
    call_command(Command(), locale=LANGUAGES, ignore_patterns=IGNORED, **options)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "batchproject.settings")
    django.setup()
    collect()

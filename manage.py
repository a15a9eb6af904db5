#!/usr/bin/env python
"""Django's command-line utility for administrative tasks."""

import os
import sys


def open_closed_streams() -> None:
    """Python has None for a stream that the caller closed, and the next file, such as the database, gets its number.

    Writing to our stand-in for the output raises an error, so that nothing shown only once gets lost.
    """
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull)  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def main() -> None:
    open_closed_streams()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "batchproject.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("Django is not installed here. Run `make setup`, then .venv/bin/python manage.py …")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"Invalid settings. {error}")


if __name__ == "__main__":
    main()

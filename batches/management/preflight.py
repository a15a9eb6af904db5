"""What the commands check before they start anything: ports, migrations, and the port of the demo's feeds."""

import errno
import socket
from argparse import ArgumentTypeError
from urllib.parse import urlsplit

from django.core.management import CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from batches.demo.profiles import HOST, PATH
from batches.models import DATABASE_FAULTS, Profile


def port_number(text: str) -> int:
    """For argparse: a TCP port."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise ArgumentTypeError(f"{text!r} is not a valid port number (1 to 65535).")
    return int(text)


def require_free_port(host: str, port: int, remedy: str) -> None:
    """Raises CommandError if nothing can listen there, with the remedy if the port is in use."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandError(f"Port {port} is in use. {remedy}") from error
        reason = str(error.strerror).partition(" (while")[0]  # what follows repeats the address
        raise CommandError(f"Cannot listen on {host}, port {port}: {reason}.") from error


def require_migrations() -> None:
    """Raises CommandError if the database cannot be reached or lacks migrations."""
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DATABASE_FAULTS as error:
        raise CommandError(f"Cannot connect to the database: {str(error).strip()}") from error
    if missing:
        raise CommandError("The database is not up to date. Run: .venv/bin/python manage.py migrate")


def demo_port() -> int | None:
    """The port in the addresses of the demo's profiles; None if there are no such profiles."""
    demo_profiles = Profile.objects.filter(url__startswith=f"http://{HOST}:", url__contains=PATH)
    url = demo_profiles.order_by("pk").values_list("url", flat=True).first()
    return urlsplit(url).port if url else None

"""What is looked at before something starts: ports, migrations, and the port of the demo's feeds."""

import errno
import os
import socket
from argparse import ArgumentTypeError
from urllib.parse import urlsplit

from django.core.management import CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from batches.demo import server as demo
from batches.models import DATABASE_FAULTS, Profile


def port_number(text: str) -> int:
    """For argparse: a TCP port that can be named in a URL."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise ArgumentTypeError(f"{text!r} is no port number (1 to 65535).")
    return int(text)


def port_problem(host: str, port: int, remedy: str) -> str:
    """Why nothing can listen there, with the remedy for a port in use; empty where something can."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return ""
    except socket.gaierror as error:
        return f"{host} is no address to listen on: {error.strerror}."
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"Port {port} is in use. {remedy}"
        return f"Nothing can listen on {host}, port {port}: {os.strerror(error.errno or 0)}."


def require_migrations() -> None:
    """Raises CommandError with what to type where the database is out of reach or behind the code."""
    try:
        executor = MigrationExecutor(connection)
        behind = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DATABASE_FAULTS as error:
        raise CommandError(f"The database cannot be reached: {str(error).strip()}") from error
    if behind:
        raise CommandError("The database is not up to date. Run: .venv/bin/python manage.py migrate")


def demo_port() -> int | None:
    """The port in the addresses of the demo's profiles, where their feeds have to stay; None where there are none."""
    demo_profiles = Profile.objects.filter(url__startswith=f"http://{demo.HOST}:", url__contains=demo.PATH)
    url = demo_profiles.order_by("pk").values_list("url", flat=True).first()
    return urlsplit(url).port if url else None

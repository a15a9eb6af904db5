"""Which web server can a few slow visitors hold? `python -m benchmarks.servers`, in an environment with all three.

Each server has one process with eight threads. 40 visitors never end a header, never send a body, or read nothing of an
export of 24 MB, while somebody else opens the login page five times. Printed: how many of these are answered within
ten seconds, and the longest time.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from http.client import HTTPConnection

from benchmarks.services import free_port, wait_for_port

VISITORS, QUESTIONS, PATIENCE = 40, 5, 10.0
APPLICATION = "batchproject.wsgi:application"
SERVERS = {
    "waitress (ours)": ["manage.py", "serve", "--no-workers", "--port=PORT"],
    "gunicorn": ["-m", "gunicorn", "--worker-class=gthread", "--threads=8", "--bind=127.0.0.1:PORT", APPLICATION],
    "granian": ["-m", "granian", "--interface=wsgi", "--blocking-threads=8", "--port=PORT", APPLICATION],
}
SETUP = """
from django.core.management import call_command
from django.contrib.auth.models import User
from batches.batch_manager import BatchManager
from batches.tests.support.factories import api_key
call_command("migrate", verbosity=0)
batch = BatchManager().create_batch("long", [f"https://example.org/{number}" for number in range(12_000)])
batch.profiles.update(error="x" * 2000)
print(batch.pk, api_key(User.objects.create_superuser("reader")))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        own = {"DATABASE_URL": f"sqlite:///{directory}/db", "DJANGO_SETTINGS_MODULE": "batchproject.settings"}
        environ = {**os.environ, **own}
        setup = [sys.executable, "manage.py", "shell", "--no-imports", "-v0", "-c", SETUP]
        batch, token = subprocess.run(setup, env=environ, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        for name, command in SERVERS.items():
            print(f"{name:16}", " | ".join(measure(command, environ, batch, token)), flush=True)


def measure(command: list[str], environ: Mapping[str, str], batch: str, token: str) -> list[str]:
    port = free_port()
    arguments = [sys.executable, *(argument.replace("PORT", str(port)) for argument in command)]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(arguments, env=environ, start_new_session=True, **streams)
    try:
        wait_for_port(port, lambda: server.poll() is None)
        ask(port)
        figures = [f"alone {describe(port)}"]
        for kind, request in make_requests(batch, token).items():
            with ExitStack() as visitors:
                for _ in range(VISITORS):
                    visitors.enter_context(visit(port, request))
                time.sleep(3.0)  # until it has read them
                figures.append(f"{kind} {describe(port)}")
            time.sleep(3.0)
        return figures
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def make_requests(batch: str, token: str) -> dict[str, str]:
    host = "Host: localhost\r\n"
    export = f"/api/v1/batches/{batch}/export/jsonl/"
    return {
        "headers": f"GET /admin/login/ HTTP/1.1\r\n{host}",
        "bodies": f"POST /admin/login/ HTTP/1.1\r\n{host}Content-Length: 1000\r\n\r\na=1",
        "readers": f"GET {export} HTTP/1.1\r\n{host}Authorization: Token {token}\r\n\r\n",
    }


def visit(port: int, request: str) -> socket.socket:
    visitor = socket.socket()
    visitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    visitor.settimeout(PATIENCE)
    visitor.connect(("127.0.0.1", port))
    visitor.sendall(request.encode())
    return visitor


def describe(port: int) -> str:
    times = [seconds for seconds in (ask(port) for _ in range(QUESTIONS)) if seconds is not None]
    return f"{len(times)} of {QUESTIONS}, {max(times):.2f} s" if times else f"0 of {QUESTIONS}"


def ask(port: int) -> float | None:
    connection, began = HTTPConnection("127.0.0.1", port, timeout=PATIENCE), time.monotonic()
    try:
        connection.request("GET", "/admin/login/")
        connection.getresponse().read()
    except OSError:
        return None
    finally:
        connection.close()
    return time.monotonic() - began


if __name__ == "__main__":
    main()

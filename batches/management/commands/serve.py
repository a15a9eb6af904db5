import os
from threading import Lock
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, CommandParser, call_command
from django.core.management.color import supports_color
from django.db import connections
from django.urls import reverse
from django.utils.termcolors import colorize

from batches.conf import get_config
from batches.demo import server as demo
from batches.management.preflight import demo_port, port_number, port_problem, require_migrations
from batches.management.supervisor import Child, Echo, supervise

COLOURS = {"web": "cyan", "worker": "green", "demo": "magenta"}
#: waitress gives running requests 5 seconds when it is told to end.
WEB_GRACE = 8.0
DEMO_GRACE = 3.0
#: What a worker needs beyond the grace it gives its checks: recording them, and giving the lease back.
WORKER_MARGIN = 5.0


class Command(BaseCommand):
    help = "Runs the web application and the worker together, until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on (default: %(default)s).")
        parser.add_argument(
            "--port",
            type=port_number,
            default=os.environ.get("PORT") or "8000",
            help="Port to listen on (default: $PORT or 8000).",
        )
        parser.add_argument(
            "--demo",
            action="store_true",
            help="Set up the demo queue first, run its feed server too, and let the worker reach it on 127.0.0.1.",
        )

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        if problem := port_problem(host, port, f"Choose another one: PORT={port + 1} make run"):
            raise CommandError(problem)
        require_migrations()
        site = f"http://{reachable_host(host)}:{port}"
        feed_port = self.set_up_demo(site) if options["demo"] else None
        children = [web_child(host, port), worker_child(reach_loopback=feed_port is not None)]
        if feed_port is not None:
            children.insert(0, feed_child())
        connections.close_all()
        self.stdout.write(f"Admin: {site}{reverse('admin:index')}\nStop with Ctrl-C.")
        if fault := supervise(children, self.make_echo(coloured=supports_color() and not options["no_color"])):
            raise CommandError(f"{fault}. Everything was stopped.")
        self.stdout.write("Stopped.")

    def set_up_demo(self, site: str) -> int | None:
        """The port on which the demo's feeds are to be served; None where the queue is not the demo's."""
        call_command("demo", site=site, stdout=self.stdout)
        port = demo_port()
        if port is None:
            return None
        remedy = (
            "The demo's profiles were made with it: stop the program that uses it, "
            "or go on without the demo: .venv/bin/python manage.py serve"
        )
        if problem := port_problem(demo.HOST, port, remedy):
            raise CommandError(problem)
        self.stdout.write(f"For the demo, this worker may also check addresses on {demo.HOST}.")
        return port

    def make_echo(self, coloured: bool) -> Echo:
        """Writes whole lines behind the name of who wrote them, one at a time."""
        lock = Lock()

        def echo(name: str, line: str) -> None:
            prefix = f"{name:<6} |"
            with lock:
                self.stdout.write(f"{colorize(prefix, fg=COLOURS[name]) if coloured else prefix} {line}")
                self.stdout.flush()

        return echo


def web_child(host: str, port: int) -> Child:
    listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = [f"--listen={listen}", "--threads=8"]
    if settings.SECURE_PROXY_SSL_HEADER:
        # waitress drops what a proxy says unless told to believe it, and each page would then be redirected to itself.
        options += ["--trusted-proxy=*", "--trusted-proxy-headers=x-forwarded-proto"]
    return Child("web", "waitress", [*options, settings.WSGI_APPLICATION], WEB_GRACE)


def worker_child(*, reach_loopback: bool) -> Child:
    environ = {"BATCHES_ALLOWED_NETWORKS": ",".join([*get_config().allowed_networks, f"{demo.HOST}/32"])}
    grace = get_config().grace_seconds + WORKER_MARGIN
    return Child("worker", "django", ["batchworker"], grace, environ if reach_loopback else {})


def feed_child() -> Child:
    return Child("demo", "django", ["demo", "--serve"], DEMO_GRACE)


def reachable_host(host: str) -> str:
    """The host for a URL that a browser on this machine can open."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 — compared, not listened on
    return f"[{host}]" if ":" in host else host

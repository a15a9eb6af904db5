import os
import sys
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.management import CommandError, CommandParser, call_command
from django.db import connections
from django.urls import reverse, set_script_prefix

from batches.conf import EXECUTORS, command_line, get_config, install_command
from batches.demo.profiles import HOST as DEMO_HOST
from batches.demo.server import FeedServer
from batches.management.base import DatabaseCommand, port_number, require_free_port, start_command
from batches.management.commands.demo import demo_port
from batches.management.supervisor import Child, supervise
from batches.management.workers import add_processes, celery_children, echo, worker_children
from batches.web.uploads import MAX_FORM_BYTES

#: The limits of waitress for idle, slow and hostile visitors.
SERVER_OPTIONS = (
    "--threads=8",
    f"--max-request-body-size={MAX_FORM_BYTES}",  # refused before the body is stored
    # An idle connection needs a file, and ends after half a minute. `select` would fail with 1,024 open files.
    "--connection-limit=500",
    "--channel-timeout=30",
    "--cleanup-interval=5",
    "--asyncore-use-poll",
    # The unread part of an export waits in a file. By default, a thread would wait beyond 16 MB.
    "--outbuf-high-watermark=2000000000",
)


class Command(DatabaseCommand):
    help = "Run the web application and the workers until Ctrl-C."

    requires_system_checks = "__all__"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on (default: %(default)s).")
        port = os.environ.get("PORT") or "8000"
        text = "Port to listen on (default: $PORT or 8000)."
        parser.add_argument("--port", type=port_number, default=port, help=text)
        prefix = settings.FORCE_SCRIPT_NAME or ""
        text = "Path of the site behind a proxy, such as /batches, whether or not the proxy removes it."
        parser.add_argument("--url-prefix", type=url_prefix, default=prefix, metavar="PATH", help=text)
        add_processes(parser)
        text = "Run only the web application. Run the workers separately, with batchworker."
        parser.add_argument("--no-workers", action="store_true", help=text)
        text = "Run the workers as separate processes, or with Celery (default: %(default)s; BATCHES_EXECUTOR)."
        parser.add_argument("--executor", choices=EXECUTORS, default=get_config().executor, help=text)
        text = "Set up the demo queue first, serve its feeds too, and let the worker connect to 127.0.0.1."
        parser.add_argument("--demo", action="store_true", help=text)

    def handle(self, *args: Any, host: str, port: int, url_prefix: str, **options: Any) -> None:
        has_workers = not options["no_workers"]
        if options["executor"] == "celery" and has_workers:
            require_celery()
        set_script_prefix(url_prefix)
        require_free_port(host, port, f"Choose another one: PORT={port + 1} {start_command(options['demo'])}")
        site = f"http://{reachable_host(host)}:{port}"
        feed_port = self.set_up_demo(site) if options["demo"] else None
        processes = options["processes"] or get_config().processes
        reachable = {"BATCHES_ALLOWED_NETWORKS": ",".join([*get_config().allowed_networks, f"{DEMO_HOST}/32"])}
        make_workers = celery_children if options["executor"] == "celery" else worker_children
        workers = make_workers(processes, reachable if feed_port else {}) if has_workers else []
        connections.close_all()
        self.stdout.write(f"Admin: {site}{reverse('admin:index')}\nStop with Ctrl-C.")
        self.stdout.flush()
        with FeedServer(feed_port) if feed_port else nullcontext():
            fault = supervise([web_child(host, port, url_prefix), *workers], partial(echo, stream=sys.stdout))
        if fault:
            raise CommandError(f"{fault}. All processes were stopped.")
        self.stdout.write("Stopped.")

    def set_up_demo(self, site: str) -> int | None:
        """Set up the demo. Returns the port for its feeds; None if the queue has no profiles of the demo."""
        call_command("demo", site=site, stdout=self.stdout)
        port = demo_port()
        if port is None:
            advice = f"To see it: DATA_DIR=demo {start_command()}"
            self.stdout.write(f"The demo is not available, since this database already has other batches. {advice}")
            return None
        remedy = (
            "The demo's profiles need it: stop the program that uses it, "
            f"or continue without the demo: {command_line('serve')}"
        )
        require_free_port(DEMO_HOST, port, remedy)
        self.stdout.write(f"For the demo, this worker may also check addresses on {DEMO_HOST}.")
        return port


def require_celery() -> None:
    if find_spec("celery") is None:
        raise CommandError(f"Celery is not installed. Run: {install_command('celery')}")
    if not getattr(settings, "CELERY_BROKER_URL", ""):
        raise CommandError("Celery needs a broker. Set CELERY_BROKER_URL to amqp://localhost or redis://localhost.")


def url_prefix(text: str) -> str:
    """For argparse: a path with a leading slash and without a trailing one, as WSGI requires; "" for the root."""
    return f"/{text.strip('/')}" if text.strip("/") else ""


def web_child(host: str, port: int, prefix: str) -> Child:
    listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = [f"--listen={listen}", f"--url-prefix={prefix}", *SERVER_OPTIONS]
    if settings.SECURE_PROXY_SSL_HEADER:
        # By default waitress drops the headers of a proxy, and each page would be redirected to itself.
        options += ["--trusted-proxy=*", "--trusted-proxy-headers=x-forwarded-proto"]
    if get_config().api_proxies:  # it would drop X-Forwarded-For too, and all visitors would share one address
        options.append("--no-clear-untrusted-proxy-headers")
    # waitress itself gives running requests 5 seconds.
    return Child("web", "batches.web.server", [*options, settings.WSGI_APPLICATION], grace=8.0)


def reachable_host(host: str) -> str:
    """The host for a URL that a browser on this machine can open."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 — compared, not listened on
    return f"[{host}]" if ":" in host else host

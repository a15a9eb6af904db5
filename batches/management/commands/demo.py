import os
import secrets
from typing import Any

from aiohttp import web
from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.urls import reverse

from batches.batch_manager import BatchManager
from batches.demo import server as demo
from batches.management.preflight import demo_port, port_number, port_problem, require_migrations
from batches.models import Batch
from batches.queue.refusals import Refusal

OPERATOR = "operator"


class Command(BaseCommand):
    help = "Sets up the demo, the first time only: an operator account and three batches of about 300 profiles."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--serve", action="store_true", help="Run the feed server that answers the demo's profiles, until Ctrl-C."
        )
        parser.add_argument(
            "--feed-port",
            type=port_number,
            default=os.environ.get("DEMO_PORT") or str(demo.DEFAULT_PORT),
            help="Port of the feed server when the demo queue is made (default: $DEMO_PORT or %(default)s). "
            "Later the server keeps to the port that the demo's profiles were made with.",
        )
        parser.add_argument(
            "--site",
            default="http://127.0.0.1:8000",
            help="Where the web application answers, for the login's address.",
        )

    def handle(self, *args: Any, serve: bool, feed_port: int, site: str, **options: Any) -> None:
        require_migrations()
        if serve:
            self.serve_feeds(demo_port() or feed_port)
        else:
            self.make_operator(site)
            self.make_queue(feed_port)

    def make_operator(self, site: str) -> None:
        """Only where there is no account at all: somebody who removed the operator does not want it back."""
        users = get_user_model()._default_manager
        if users.exists():
            return
        password = secrets.token_urlsafe(12)
        users.create_superuser(username=OPERATOR, password=password)
        self.print_box(
            f"Log in at  {site}{reverse('admin:index')}",
            f"User       {OPERATOR}",
            f"Password   {password}",
            "",
            "The password was made for this installation and is shown only now.",
            f"Change it: .venv/bin/python manage.py changepassword {OPERATOR}",
        )

    def make_queue(self, feed_port: int) -> None:
        """Only where there is no batch at all, and all three or none."""
        with transaction.atomic():
            if Batch.everything.exists():
                return
            remedy = f"Choose another one for the demo: DEMO_PORT={feed_port + 1} make run"
            if problem := port_problem(demo.HOST, feed_port, remedy):
                raise CommandError(problem)
            for batch in demo.BATCHES:
                self.make_batch(batch, feed_port)
        total = sum(len(demo.profiles_of(batch, feed_port)) for batch in demo.BATCHES)
        self.stdout.write(
            f"Demo queue made: {len(demo.BATCHES)} batches, {total} profiles, about three minutes of work."
        )

    def make_batch(self, batch: demo.DemoBatch, feed_port: int) -> None:
        manager = BatchManager(actor="demo", channel="command")
        made = manager.create_batch(batch.name, demo.profiles_of(batch, feed_port), priority=batch.priority)
        if isinstance(made, Refusal):
            raise CommandError(f"The demo queue cannot be made: {made.message}")

    def serve_feeds(self, port: int) -> None:
        if problem := port_problem(demo.HOST, port, "The demo's feeds cannot be served."):
            raise CommandError(problem)
        web.run_app(
            demo.FeedServer().app(),
            host=demo.HOST,
            port=port,
            print=lambda *_: self.stdout.write(f"The demo's feeds answer on http://{demo.HOST}:{port}{demo.PATH}"),
            access_log=None,
            shutdown_timeout=1,
        )

    def print_box(self, *lines: str) -> None:
        width = max(map(len, lines))
        self.stdout.write(f"┌─{'─' * width}─┐")
        for line in lines:
            self.stdout.write(f"│ {line:<{width}} │")
        self.stdout.write(f"└─{'─' * width}─┘")

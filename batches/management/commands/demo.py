import os
import secrets
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth import get_user_model
from django.core.management import CommandError, CommandParser
from django.db import transaction
from django.urls import reverse

from batches.batch_manager import BatchManager
from batches.conf import command_line
from batches.demo.profiles import BATCHES, DEFAULT_PORT, HOST, PATH, profiles_of
from batches.management.base import DatabaseCommand, port_number, require_free_port, start_command
from batches.models import Batch, Profile
from batches.queue.refusals import Refusal

OPERATOR = "operator"


class Command(DatabaseCommand):
    help = "Set up the demo on an empty database: an operator account and three batches with 300 profiles."

    def add_arguments(self, parser: CommandParser) -> None:
        port = os.environ.get("DEMO_PORT") or str(DEFAULT_PORT)
        text = (
            "Port of the feed server when the demo queue is created (default: $DEMO_PORT or %(default)s). "
            "Afterwards the server uses the port in the addresses of the demo's profiles."
        )
        parser.add_argument("--feed-port", type=port_number, default=port, help=text)
        text = "Address of the web application, shown with the login."
        parser.add_argument("--site", default="http://127.0.0.1:8000", help=text)

    def handle(self, *args: Any, feed_port: int, site: str, **options: Any) -> None:
        self.create_operator(site)
        self.create_queue(feed_port)

    def create_operator(self, site: str) -> None:
        """Create the operator if the database has no accounts: a removed operator must not come back."""
        user = get_user_model()
        if user._default_manager.exists():
            return
        password = secrets.token_urlsafe(12)
        with transaction.atomic():
            user._default_manager.create_superuser(**{user.USERNAME_FIELD: OPERATOR, "password": password})
            self.print_box(
                f"Log in at  {site}{reverse('admin:index')}",
                f"User       {OPERATOR}",
                f"Password   {password}",
                "",
                "The password was generated for this installation and is shown only once.",
                f"Change it: {command_line(f'changepassword {OPERATOR}')}",
            )
            self.require_delivered()

    def create_queue(self, feed_port: int) -> None:
        """Create three batches in an empty database. Each feed is read only once, so its stories count as new."""
        with transaction.atomic():
            if Batch.everything.exists():
                return
            require_free_port(
                HOST, feed_port, f"Choose another one for the demo: DEMO_PORT={feed_port + 1} {start_command()}"
            )
            total = 0
            for batch in BATCHES:
                profiles = profiles_of(batch, feed_port)
                created = BatchManager("demo", "command").create_batch(
                    batch.name, profiles, batch.priority, count_first=True
                )
                if isinstance(created, Refusal):
                    raise CommandError(f"Cannot create the demo queue: {created.message}")
                total += len(profiles)
        self.stdout.write(
            f"Demo queue created: {len(BATCHES)} batches, {total} profiles, about three minutes of checks."
        )

    def print_box(self, *lines: str) -> None:
        width = max(map(len, lines))
        self.stdout.write(f"┌─{'─' * width}─┐")
        for line in lines:
            self.stdout.write(f"│ {line:<{width}} │")
        self.stdout.write(f"└─{'─' * width}─┘")


def demo_port() -> int | None:
    """The port in the addresses of the demo's profiles; None if it has no profiles."""
    demo_profiles = Profile.objects.filter(url__startswith=f"http://{HOST}:", url__contains=PATH)
    url = demo_profiles.order_by("pk").values_list("url", flat=True).first()
    return urlsplit(url).port if url else None

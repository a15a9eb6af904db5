from typing import Any

from django.core.management.base import CommandParser

from batches.management.base import JSON, ActionCommand, add_limit
from batches.management.tables import HOSTS
from batches.models import public_fields
from batches.reports.hosts import find_failing_hosts


class Command(ActionCommand):
    help = "List the hosts that fail most."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        description = "List the hosts with the most failing profiles, by the last check of each profile."
        action = self.add_action("list", Command.show, description, JSON)
        action.add_argument(
            "--search", default="", help="Part of a failing host's name, or the whole name of any host."
        )
        add_limit(action, "hosts")

    def show(self, *, search: str, limit: int, as_json: bool, **options: Any) -> None:
        found = find_failing_hosts(limit, search)
        otherwise = "No failing host has this in its name." if search else "No host fails."
        self.print_things(as_json, found.hosts, public_fields.HOST, HOSTS, otherwise, lambda: found.total)

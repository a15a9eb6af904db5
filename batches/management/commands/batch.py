from django.core.management.base import CommandParser

from batches.management.batch.changing import ChangeActions
from batches.management.batch.running import RunActions
from batches.management.batch.showing import ShowActions


class Command(RunActions, ShowActions, ChangeActions):
    help = "Create, run, inspect and control batches."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_run_actions()
        self.add_create_actions()
        self.add_show_actions()
        self.add_change_actions()

from django.core.management.base import CommandParser

from batches.management.batch.housekeeping import HousekeepingActions
from batches.management.batch.running import RunActions
from batches.management.batch.steering import SteeringActions


class Command(RunActions, SteeringActions, HousekeepingActions):
    help = "Create, run, inspect and control batches."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_run_actions()
        self.add_show_actions()
        self.add_steering_actions()
        self.add_housekeeping_actions()

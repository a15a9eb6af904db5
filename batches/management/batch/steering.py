"""`manage.py batch queue`, `start`, `pause` and the other actions that change a batch."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandError

from batches.management.base import ActionCommand
from batches.management.output import printable
from batches.models import Action, Batch
from batches.queue.actions import RULES

#: Actions on any number of batches.
ACTIONS = {
    "queue": (Action.QUEUE_BATCH, "Queue batches; a finished one is checked again."),
    "start": (Action.START_BATCH, "Start a batch before all others."),
    "pause": (Action.PAUSE_BATCH, "Set batches aside; their results are kept."),
    "retry": (Action.RETRY_FAILED, "Check the failed profiles of batches again."),
    "repeat": (Action.REPEAT_BATCH, "Check the same profiles again, in new batches."),
    "delete": (Action.DELETE_BATCH, "Delete batches with their results; their stories stay known."),
}
SHORT_ID = "You can shorten an ID to its first four characters."


class SteeringActions(ActionCommand):
    def add_steering_actions(self) -> None:
        for name, (action, description) in ACTIONS.items():
            parser = self.add_action(name, SteeringActions.apply, description)
            parser.set_defaults(action=action)
            parser.add_argument("ids", nargs="+", metavar="ID", help=SHORT_ID)
            if action == Action.DELETE_BATCH:
                parser.add_argument("--yes", action="store_true", help="Do not ask for confirmation.")
        move = self.add_action("move", SteeringActions.move, "Move a queued batch to another position.")
        move.add_argument("id", help=SHORT_ID)
        move.add_argument("position", type=int, help="1 is the front; a number beyond the end means the end.")
        priority = self.add_action(
            "priority", SteeringActions.set_priority, "Change the priority of a batch; higher goes first."
        )
        priority.add_argument("id", help=SHORT_ID)
        priority.add_argument("priority", type=int, help="Higher goes first.")

    def apply(self, *, action: Action, ids: list[str], yes: bool = True, **options: Any) -> None:
        """Each batch by itself: a refusal does not stop the others."""
        if not yes and sys.stdin.isatty():
            names = ", ".join(f"“{printable(self.find_batch(batch_id).name)}”" for batch_id in ids)
            require_confirmed(f"Delete {names} with all results?")
        refused = False
        for batch_id in ids:
            try:
                batch = self.find_batch(batch_id)
                outcome = self.require_accepted(getattr(self.manager, action)(batch.pk))
            except CommandError as error:
                self.stderr.write(self.style.ERROR(str(error)))
                refused = True
            else:
                new_id = f" {outcome.pk}" if isinstance(outcome, Batch) else ""
                self.stdout.write(RULES[action].success.format(printable(batch.name)) + new_id)
        if refused:
            raise SystemExit(1)

    def move(self, *, id: str, position: int, **options: Any) -> None:
        batch = self.find_batch(id)
        self.require_accepted(self.manager.move_batch(batch.pk, position))
        batch.refresh_from_db()
        self.stdout.write(f"“{printable(batch.name)}” is at position {batch.position}.")

    def set_priority(self, *, id: str, priority: int, **options: Any) -> None:
        batch = self.find_batch(id)
        self.require_accepted(self.manager.set_priority(batch.pk, priority))
        self.stdout.write(f"“{printable(batch.name)}” has priority {priority}.")


def require_confirmed(question: str) -> None:
    """Ask at the terminal. Raises CommandError unless the reply is yes."""
    try:
        reply = input(f"{question} [y/N] ")
    except EOFError:
        reply = ""
    if reply.strip().lower() not in {"y", "yes"}:
        raise CommandError("Nothing was deleted.")

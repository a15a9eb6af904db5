"""`manage.py batch queue`, `start`, `pause` and the other actions that change batches; `prune` and `doctor`."""

import sys
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone

from batches.checking.pruning import list_rules
from batches.conf import get_config
from batches.limits import MAX_DAYS
from batches.management.base import ID, JSON, SHORT_ID, ActionCommand, add_now, number_to
from batches.management.tables import BATCHES
from batches.models import Action, Batch
from batches.queue.transitions import RULES
from batches.queue.undo import find_latest_change
from batches.reports import doctor
from batches.text import pluralise, printable

#: Actions on any number of batches.
ACTIONS = {
    "queue": (Action.QUEUE_BATCH, "Queue batches; a paused one continues, a done one is rechecked completely."),
    "start": (Action.START_BATCH, "Start a batch before all others."),
    "pause": (Action.PAUSE_BATCH, "Set batches aside; their results are kept."),
    "retry": (Action.RETRY_FAILED, "Recheck the failed profiles of batches."),
    "repeat": (Action.REPEAT_BATCH, "Queue a new run of each batch: a new batch with the same profiles."),
    "undo": (Action.UNDO_CHANGE, "Undo the latest change of batches (queued, started, paused, moved), newest first."),
    "delete": (Action.DELETE_BATCH, "Delete batches with their results; their stories are kept."),
}

number_of_days = number_to(MAX_DAYS, f"a whole number from 1 to {MAX_DAYS:,}")


class ChangeActions(ActionCommand):
    def add_change_actions(self) -> None:
        for name, (action, description) in ACTIONS.items():
            parser = self.add_action(name, ChangeActions.apply, description)
            parser.set_defaults(action=action)
            parser.add_argument("ids", nargs="+", metavar="ID", help=SHORT_ID)
            if action == Action.START_BATCH:
                add_now(parser)
            if action == Action.PAUSE_BATCH:
                parser.add_argument("--reason", help="Shown with the batch, and in its log.")
            if action == Action.RETRY_FAILED:
                chosen = parser.add_mutually_exclusive_group()
                text = "Only those that failed for this reason, as `batch show` prints it; can be given several times."
                chosen.add_argument("--reason", dest="reasons", action="append", help=text)
                text = "Only this profile, by its address or ID; can be given several times."
                chosen.add_argument("--profile", dest="profiles", action="append", help=text)
            if action == Action.DELETE_BATCH:
                parser.add_argument("--yes", action="store_true", help="Do not ask for confirmation.")
        move = self.add_action("move", ChangeActions.move, "Move a queued batch to another position.", ID)
        move.add_argument("position", type=int, help="1 is the front; a number beyond the end means the end.")
        priority = self.add_action("priority", ChangeActions.set_priority, "Change the priority of a batch.", ID)
        priority.add_argument("priority", type=int, help="Higher goes first.")
        prune = self.add_action("prune", ChangeActions.prune, "Delete batches that ended long ago.")
        days = get_config().prune_batches_days or 90
        text = "Days since their end (default: %(default)s)."
        prune.add_argument("--days", type=number_of_days, default=days, help=text)
        prune.add_argument("--keep-errors", action="store_true", help="Delete only batches that are done.")
        text = "Only list them, and count the rows that workers remove according to the settings."
        prune.add_argument("--dry-run", action="store_true", help=text)
        prune.add_argument("--yes", action="store_true", help="Do not ask for confirmation.")
        description = "Recount everything from the rows; exit with status 1 if something is wrong."
        examine = self.add_action("doctor", ChangeActions.examine, description, JSON)
        examine.add_argument("--fix", action="store_true", help="Repair what can be derived, and log it.")

    def apply(
        self,
        *,
        action: Action,
        ids: list[str],
        yes: bool = True,
        now: bool = False,
        reason: str | None = None,
        **options: Any,
    ) -> None:
        """Apply the action to each batch. A refusal does not stop the others."""
        values: dict[str, Any] = {"preempt": True} if now else {"reason": reason} if reason else {}
        if action == Action.RETRY_FAILED:
            profiles = [self.find_profile(wanted).pk for wanted in options["profiles"] or ()]
            values = {"reasons": options["reasons"], "profiles": profiles or None}
        if not yes and sys.stdin.isatty():
            names = ", ".join(f"“{printable(self.find_batch(batch_id).name)}”" for batch_id in ids)
            require_confirmed(f"Delete {names} with all results?")
        if action == Action.UNDO_CHANGE:  # each undo then finds the queue as that change left it
            ids = sorted(ids, key=self.line_of_change, reverse=True)
        refused = False
        for batch_id in ids:
            try:
                batch = self.find_batch(batch_id)
                outcome = self.require_accepted(getattr(self.manager, action)(batch.pk, **values))
            except CommandError as error:
                self.stderr.write(str(error))
                refused = True
            else:
                new_id = f" {outcome.pk}" if isinstance(outcome, Batch) else ""
                self.stdout.write(RULES[action].describe_success(printable(batch.name)) + new_id)
        if refused:
            raise SystemExit(1)

    def line_of_change(self, batch_id: str) -> int:
        try:
            change = find_latest_change(self.find_batch(batch_id))
        except CommandError:  # reported when it is its turn
            return 0
        return change.pk if change else 0

    def move(self, *, id: str, position: int, **options: Any) -> None:
        batch = self.find_batch(id)
        self.require_accepted(self.manager.move_batch(batch.pk, position))
        batch.refresh_from_db()
        self.stdout.write(f"“{printable(batch.name)}” is at position {batch.position:,}.")

    def set_priority(self, *, id: str, priority: int, **options: Any) -> None:
        batch = self.find_batch(id)
        self.require_accepted(self.manager.set_priority(batch.pk, priority))
        self.stdout.write(f"“{printable(batch.name)}” has priority {priority}.")

    def prune(self, *, days: int, keep_errors: bool, dry_run: bool, yes: bool, **options: Any) -> None:
        batches = Batch.objects.ended_before(timezone.now() - timedelta(days=days), with_errors=not keep_errors)
        total = pluralise(len(batches), "batch", "batches")
        if dry_run:
            self.print_rows(batches, BATCHES, "No batch ended that long ago.")
            for rule in list_rules():
                old = pluralise(rule.find_old().count(), rule.noun, rule.plural)
                self.stdout.write(f"Workers remove: {old} older than {pluralise(rule.days, 'day')}.")
            self.stderr.write(f"Dry run: {total} would be deleted.")
            return
        if not yes and sys.stdin.isatty():
            require_confirmed(f"Delete {total} with all results?")
        # The question may have waited for minutes: batches that were queued again since are kept.
        results = self.manager.delete_batches([batch.pk for batch in batches], expected_in=batches)
        deleted = sum(map(bool, results))
        self.stdout.write(f"{pluralise(deleted, 'batch', 'batches')} deleted.")

    def examine(self, *, fix: bool, as_json: bool, **options: Any) -> None:
        findings = left = doctor.diagnose()
        if fix and findings:
            doctor.repair(findings, self.manager)
            left = doctor.diagnose()
        if as_json:
            result = {"findings": findings, "left": left}
            self.print_json({name: list(map(asdict, part)) for name, part in result.items()})
        else:
            can_be_fixed = any(finding.can_be_fixed for finding in findings)
            context = {"findings": findings, "left": left, "fix": fix, "can_be_fixed": can_be_fixed}
            self.print_template("doctor", context | {"repaired": len(findings) - len(left)})
        if left:
            raise SystemExit(1)


def require_confirmed(question: str, otherwise: str = "Nothing was deleted.") -> None:
    """Ask at the terminal. Raises CommandError unless the reply is yes."""
    try:
        reply = input(f"{question} [y/N] ")
    except EOFError:
        reply = ""
    if reply.strip().lower() not in {"y", "yes"}:
        raise CommandError(otherwise)

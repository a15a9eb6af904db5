"""`manage.py batch prune` and `doctor`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.utils import timezone

from batches.management.base import ActionCommand, add_json, count
from batches.management.batch.steering import require_confirmed
from batches.management.output import batch_table, finding_line
from batches.reports import doctor, queries
from batches.text import pluralise


class HousekeepingActions(ActionCommand):
    def add_housekeeping_actions(self) -> None:
        prune = self.add_action("prune", HousekeepingActions.prune, "Delete batches that ended long ago.")
        prune.add_argument("--days", type=count, default=90, help="Days since their end (default: %(default)s).")
        prune.add_argument("--keep-errors", action="store_true", help="Delete only batches that are done.")
        prune.add_argument("--dry-run", action="store_true", help="Only list them.")
        prune.add_argument("--yes", action="store_true", help="Do not ask for confirmation.")
        check = "Recount everything from the rows; exit with status 1 if something is wrong."
        parser = self.add_action("doctor", HousekeepingActions.examine, check)
        parser.add_argument("--fix", action="store_true", help="Repair what can be derived, and log it.")
        add_json(parser)

    def prune(self, *, days: int, keep_errors: bool, dry_run: bool, yes: bool, **options: Any) -> None:
        batches = queries.ended_before(timezone.now() - timedelta(days=days), with_errors=not keep_errors)
        total = pluralise(len(batches), "batch", "batches")
        if dry_run:
            self.print_lines(batch_table(batches))
            self.stderr.write(f"Dry run: {total} would be deleted.")
            return
        if not yes and sys.stdin.isatty():
            require_confirmed(f"Delete {total} with all results?")
        deleted = sum(map(bool, self.manager.delete_batches([batch.pk for batch in batches])))
        self.stdout.write(f"{pluralise(deleted, 'batch', 'batches')} deleted.")

    def examine(self, *, fix: bool, as_json: bool, **options: Any) -> None:
        findings = doctor.diagnose()
        left = findings
        if fix and findings:
            doctor.repair(findings, self.manager)
            left = doctor.diagnose()
        if as_json:
            result = {"findings": findings, "left": left}
            self.print_json({name: [doctor.as_dict(finding) for finding in part] for name, part in result.items()})
        else:
            self.print_lines(diagnosis(findings, left, fix))
        if left:
            raise SystemExit(1)


def diagnosis(findings: list[doctor.Finding], left: list[doctor.Finding], fixed: bool) -> Iterator[str]:
    """The problems, and what to do about them."""
    if not findings:
        yield "No problems found."
        return
    yield from map(finding_line, findings)
    if fixed:
        yield f"Repaired: {len(findings) - len(left):,}. Left: {len(left):,}."
        yield from map(finding_line, left)
    elif any(finding.can_be_fixed for finding in findings):
        yield "Repair what can be derived: manage.py batch doctor --fix"

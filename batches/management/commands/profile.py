import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import QuerySet

from batches.management.base import HOST, JSON, ActionCommand, add_limit, add_values
from batches.management.batch.changing import require_confirmed
from batches.management.output import MAX_SHOWN
from batches.management.tables import CHECKS, RESTING
from batches.models import Profile, public_fields
from batches.queue.forgetting import Traces, count_traces
from batches.queue.refusals import Refusal
from batches.reports.history import fetch_history
from batches.text import pluralise, printable


class Command(ActionCommand):
    help = "Show the profiles that rest or the history of a profile, check profiles now, or forget them."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        description = "List the profiles that scheduled runs leave out after repeated failures."
        add_limit(self.add_action("resting", Command.show_resting, description, HOST, JSON), "profiles")
        check = self.add_action("check", Command.check_now, "Check profiles now, in a new batch.", HOST, JSON)
        check.add_argument("profiles", nargs="*", metavar="PROFILE", help="Its address, or its ID.")
        check.add_argument("--resting", action="store_true", help="All profiles that rest.")
        check.add_argument("--name", default="Check now", help="Name of the batch (default: %(default)s).")
        add_values(check)
        description = "Show the checks of a profile in all batches, newest first, including repeated ones."
        history = self.add_action("history", Command.show_history, description, JSON)
        history.add_argument("profile", metavar="PROFILE", help="Its address, or its ID.")
        add_limit(history, "checks")
        description = "Delete profiles with all their data: stories, rows in batches, memberships."
        forget = self.add_action("forget", Command.forget, description, JSON)
        forget.add_argument("profiles", nargs="+", metavar="PROFILE", help="Its address, or its ID.")
        forget.add_argument("--dry-run", action="store_true", help="Only report what would be deleted.")
        forget.add_argument("--yes", action="store_true", help="Do not ask for confirmation.")

    def show_resting(self, *, host: str | None, limit: int, as_json: bool, **options: Any) -> None:
        resting = self.find_resting(host).order_by("rests_until", "pk")
        found = resting[:limit]
        self.print_things(as_json, found, public_fields.PROFILE, RESTING, "No profile rests.", resting.count)

    def show_history(self, *, profile: str, limit: int, as_json: bool, **options: Any) -> None:
        checks = fetch_history(self.find_profile(profile), limit)
        self.print_things(as_json, checks, public_fields.CHECK, CHECKS, "No batch has checked this profile.")

    def check_now(self, *, profiles: list[str], resting: bool, host: str | None, as_json: bool, **options: Any) -> None:
        if bool(profiles) == resting or (profiles and host):
            raise CommandError("Name the profiles, or use --resting (with --host for those at one host).")
        if resting:
            chosen = self.find_resting(host)
        else:
            chosen = Profile.objects.filter(pk__in=[self.find_profile(wanted).pk for wanted in profiles])
        if not chosen.exists():
            raise CommandError("No profile rests. Nothing was created.")
        values = {name: options[name] for name in ("priority", "checker")}
        batch = self.require_accepted(self.manager.create_batch(options["name"], chosen, **values))
        if not as_json:
            self.report_queued(batch)
        self.conclude_new(batch, False, as_json)

    def find_resting(self, host: str | None) -> QuerySet[Profile]:
        return self.filter_by_host(Profile.objects.resting(), "url", host)

    def forget(self, *, profiles: list[str], dry_run: bool, yes: bool, as_json: bool, **options: Any) -> None:
        found = list({profile.pk: profile for profile in map(self.find_profile, profiles)}.values())
        traces = count_traces(found)
        if dry_run:
            self.report(traces, f"{pluralise(len(found), 'profile')} would be forgotten", as_json)
            self.stderr.write("Dry run: nothing was deleted.")
            return
        if not yes and sys.stdin.isatty():
            self.print_lines(printable(profile.url) for profile in found[:MAX_SHOWN])
            require_confirmed(f"Forget {pluralise(len(found), 'profile')}, with {traces}?")
        results = [self.manager.forget_profile(profile.pk) for profile in found]
        refused = [result.message for result in results if isinstance(result, Refusal)]
        gone = sum((result for result in results if isinstance(result, Traces)), start=Traces())
        self.report(gone, f"{pluralise(gone.profiles, 'profile')} forgotten", as_json)
        self.report_refused(refused)

    def report(self, traces: Traces, what: str, as_json: bool) -> None:
        self.print_result(as_json, asdict(traces), f"{what}: {traces}.")

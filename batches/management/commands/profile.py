import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from batches.lists.addresses import InvalidAddress, normalise_address
from batches.management.base import JSON, ActionCommand
from batches.management.batch.changing import require_confirmed
from batches.management.output import MAX_SHOWN, printable
from batches.models import Profile
from batches.queue.forgetting import Traces, count_traces, find_profile
from batches.queue.refusals import Refusal, refusable
from batches.text import pluralise


class Command(ActionCommand):
    help = "Forget profiles."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        description = "Delete profiles with everything that is stored of them: stories, rows in batches, memberships."
        forget = self.add_action("forget", Command.forget, description, JSON)
        forget.add_argument("profiles", nargs="+", metavar="PROFILE", help="Its address, or its ID.")
        forget.add_argument("--dry-run", action="store_true", help="Only report what would be deleted.")
        forget.add_argument("--yes", action="store_true", help="Do not ask for confirmation.")

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
        if refused:
            raise CommandError("\n".join(map(printable, refused)))

    def report(self, traces: Traces, what: str, as_json: bool) -> None:
        if as_json:
            self.print_json(asdict(traces))
        else:
            self.stdout.write(f"{what}: {traces}.")

    def find_profile(self, wanted: str) -> Profile:
        if wanted.isdigit():
            return self.require_accepted(refusable(find_profile)(wanted))
        try:
            url = normalise_address(wanted)
        except InvalidAddress as error:
            raise CommandError(f"{printable(wanted)[:100]} is neither an address nor an ID: {error}") from error
        found = Profile.objects.filter(url=url).first()
        if found is None:
            raise CommandError(f"No profile has the address {printable(url)}.")
        return found

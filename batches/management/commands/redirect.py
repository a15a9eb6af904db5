from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import QuerySet

from batches.management.base import HOST, JSON, ActionCommand, add_limit
from batches.management.tables import REDIRECTS
from batches.models import Redirect, public_fields
from batches.queue.refusals import Refusal
from batches.text import pluralise, printable


class Command(ActionCommand):
    help = "List profiles that redirect permanently, and give them the addresses that they redirect to."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        description = "List the redirects that can be accepted: several checks have seen them, over days."
        add_limit(self.add_action("list", Command.show, description, HOST, JSON), "redirects")
        description = "Give profiles the addresses that they redirect to."
        accept = self.add_action("accept", Command.accept, description, HOST, JSON)
        accept.add_argument("ids", nargs="*", metavar="ID", help="IDs, as in the list.")
        accept.add_argument("--all", action="store_true", dest="takes_all", help="All redirects that match.")
        accept.add_argument("--dry-run", action="store_true", help="Only report what would change.")

    def show(self, *, host: str | None, limit: int, as_json: bool, **options: Any) -> None:
        redirects = self.find(host)
        nothing = "No profile redirects permanently."
        self.print_things(as_json, redirects[:limit], public_fields.REDIRECT, REDIRECTS, nothing, redirects.count)

    def accept(
        self, *, ids: list[str], takes_all: bool, host: str | None, dry_run: bool, as_json: bool, **options: Any
    ) -> None:
        if bool(ids) == takes_all or (ids and host):
            raise CommandError("Name the redirects by their IDs, or use --all (with --host for those at one host).")
        wanted = dict.fromkeys(ids)
        if dry_run:
            named = [self.require_accepted(self.manager.find_redirect(redirect_id)) for redirect_id in wanted]
            found = self.find(host) if takes_all else named
            self.print_things(as_json, found, public_fields.REDIRECT, REDIRECTS, "Nothing to accept.")
            self.stderr.write("Dry run: nothing was saved.")
            return
        if takes_all:
            results = self.manager.accept_redirects(self.find(host))
        else:
            results = [self.manager.accept_redirect(redirect_id) for redirect_id in wanted]
        accepted = [result for result in results if not isinstance(result, Refusal)]
        refused = [result.message for result in results if isinstance(result, Refusal)]
        if as_json:
            self.print_json([public_fields.as_dict(result, public_fields.ACCEPTANCE) for result in accepted])
        else:
            self.print_lines(printable(str(result)) for result in accepted)
            self.stdout.write(f"{pluralise(len(accepted), 'redirect')} accepted.")
        self.report_refused(refused)

    def find(self, host: str | None) -> QuerySet[Redirect]:
        return self.filter_by_host(Redirect.objects.proposed(), "profile__url", host)

import sys
from argparse import ArgumentParser, BooleanOptionalAction
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from batches.conf import command_line, get_config
from batches.lists.exports import MEMBER_EXPORTERS
from batches.lists.imports import ImportResult
from batches.management.base import JSON, add_export_options, add_now, add_values
from batches.management.batch.changing import require_confirmed
from batches.management.batch.creating import add_content, read_list
from batches.management.feeds import FeedActions
from batches.management.output import MAX_SHOWN, when
from batches.management.subscriptions import SubscriptionActions
from batches.management.tables import LISTS
from batches.models import ListProfile, ProfileList, public_fields, rows_of
from batches.models.lists import COUNT_FIRST
from batches.models.public_fields import as_dict, batch_as_dict
from batches.queue.members import ListChange
from batches.queue.refusals import Code, Refusal
from batches.reports import streams
from batches.text import pluralise, printable

# Arguments that several actions share.
LIST, CONTENT = ArgumentParser(add_help=False), ArgumentParser(add_help=False)
LIST.add_argument("list", metavar="LIST", help="Its name, or its ID, which you can shorten to four characters.")
add_content(CONTENT)


class Command(FeedActions, SubscriptionActions):
    help = "Create, edit, run, publish and export lists of profiles, and subscribe to them."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_create()
        self.add_action(
            "show", Command.show, "Show a list with its runs and its log, or all lists.", JSON
        ).add_argument("list", metavar="LIST", nargs="?", help="Its name or its ID (default: all lists).")
        change = self.add_action(
            "change", Command.change, "Rename a list, or set the values of its next runs.", LIST, JSON
        )
        change.add_argument("--name")
        change.add_argument("--priority", type=int, help="Higher goes first.")
        change.add_argument("--checker", choices=list(get_config().all_checkers))
        change.add_argument("--count-first", action=BooleanOptionalAction, help=str(COUNT_FIRST))
        self.add_schedule()
        self.add_action("add", Command.add, "Add profiles to a list.", LIST, CONTENT, JSON)
        self.add_action("remove", Command.remove, "Remove profiles from a list.", LIST, CONTENT, JSON)
        description = "Make a list contain exactly these profiles."
        sync = self.add_action("import", Command.sync, description, LIST, CONTENT, JSON)
        sync.add_argument("--yes", action="store_true", help="Import even if it removes over a tenth of the list.")
        description = "Correct the address of a profile, which keeps its history."
        correct = self.add_action("correct", Command.correct, description, LIST)
        correct.add_argument("address")
        correct.add_argument("new_address")
        export = self.add_action("export", Command.export, "Export the profiles of a list.", LIST)
        add_export_options(export, MEMBER_EXPORTERS)
        self.add_feed_actions()
        add_now(self.add_action("run", Command.run, "Queue a batch of a list's current profiles.", LIST, JSON))
        self.add_subscription_actions(LIST)
        description = "Delete a list; its profiles, its runs and their results are kept."
        delete = self.add_action("delete", Command.delete, description, LIST)
        delete.add_argument("--yes", action="store_true", help="Do not ask for confirmation.")

    def add_create(self) -> None:
        create = self.add_action("create", Command.create, "Create a list.", JSON)
        create.add_argument("name")
        add_content(create, nargs="?", help="Its profiles (default: an empty list); - for standard input.")
        add_values(create)
        create.add_argument("--count-first", action="store_true", help=str(COUNT_FIRST))

    def add_schedule(self) -> None:
        schedule = self.add_action("schedule", Command.schedule, "Schedule a list.", LIST, JSON)
        text = "A cron expression such as “30 6 * * MON-FRI” (default: show its schedule)."
        schedule.add_argument("expression", nargs="?", help=text)
        schedule.add_argument("--time-zone", help="Such as Europe/Berlin (default: unchanged, or UTC).")
        schedule.add_argument(
            "--delay", type=int, metavar="MINUTES", help="Start up to this many minutes later, at random."
        )
        switch = schedule.add_mutually_exclusive_group()
        switch.add_argument("--on", action="store_true", default=None, help="Switch it on again.")
        switch.add_argument("--off", action="store_false", dest="on", help="Switch it off, and keep it.")

    def create(self, *, name: str, file: str | None, dry_run: bool, as_json: bool, **options: Any) -> None:
        result = self.read(file, as_json, **options) if file else None
        if dry_run:
            self.stderr.write("Dry run: nothing was saved.")
            return
        profiles = result.profiles if result else {}
        values = {field: options[field] for field in ("priority", "checker", "count_first")}
        created = self.require_accepted(self.manager.create_list(name, profiles, **values))
        total = pluralise(created.total_profiles, "profile")
        text = f"Created the list “{printable(created.name)}” with {total}: {created.pk}"
        self.print_result(as_json, as_dict(created, public_fields.LIST), text)

    def show(self, *, list: str | None, as_json: bool, **options: Any) -> None:
        if list is not None:
            self.show_list(self.find_list(list), as_json)
            return
        lists = ProfileList.objects.order_by("name", "pk")
        nothing = f"No lists. Create one: {command_line('list create NAME FILE')}"
        self.print_things(as_json, lists, public_fields.LIST, LISTS, nothing)

    def show_list(self, found: ProfileList, as_json: bool) -> None:
        runs = found.runs.order_by("-created_at")[:MAX_SHOWN]
        if as_json:
            self.print_json(as_dict(found, public_fields.LIST) | {"runs": [batch_as_dict(run) for run in runs]})
            return
        entries = found.logs.newest_first()[:MAX_SHOWN]
        self.print_template("list", {"list": found, "runs": runs, "entries": entries})

    def change(self, *, list: str, as_json: bool, **options: Any) -> None:
        found = self.find_list(list)
        given = {field: options[field] for field in ("name", "priority", "checker", "count_first")}
        values: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
        if not values:
            raise CommandError("Nothing to change. Give at least one of --name, --priority, --checker, --count-first.")
        self.require_accepted(self.manager.change_list(found.pk, **values))
        found.refresh_from_db()
        self.print_result(as_json, as_dict(found, public_fields.LIST), f"“{printable(found.name)}” was changed.")

    def schedule(
        self,
        *,
        list: str,
        expression: str | None,
        time_zone: str | None,
        delay: int | None,
        on: bool | None,
        as_json: bool,
        **options: Any,
    ) -> None:
        found = self.find_list(list)
        given = {"schedule": expression, "time_zone": time_zone, "delay_minutes": delay, "schedule_active": on}
        values: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
        if values:
            self.require_accepted(self.manager.change_list(found.pk, **values))
            found.refresh_from_db()
        if as_json:
            self.print_json(as_dict(found, public_fields.LIST))
            return
        self.stdout.write(f"“{printable(found.name)}”: {found.schedule_in_words or 'no schedule'}")
        if found.next_run_at:
            self.stdout.write(f"Next run: {when(found.next_run_at)}")
            self.stdout.write("Next times: " + ", ".join(when(time) for time in found.next_times))

    # Its profiles

    def add(self, **options: Any) -> None:
        self.edit(self.manager.add_profiles, attrgetter("if_added"), **options)

    def remove(self, **options: Any) -> None:
        self.edit(self.manager.remove_profiles, attrgetter("if_removed"), **options)

    def edit(
        self,
        call: Callable[..., ListChange | Refusal],
        preview: Callable[[ListChange], ListChange],
        *,
        list: str,
        file: str,
        dry_run: bool,
        as_json: bool,
        **options: Any,
    ) -> None:
        found, result = self.find_list(list), self.read(file, as_json, **options)
        outcome = preview(self.compare(found, result)) if dry_run else call(found.pk, result.profiles)
        self.report_change(found, self.require_accepted(outcome), dry_run, as_json)

    def sync(self, *, list: str, file: str, dry_run: bool, yes: bool, as_json: bool, **options: Any) -> None:
        found, result = self.find_list(list), self.read(file, as_json, **options)
        if dry_run:
            self.report_change(found, self.compare(found, result), dry_run, as_json)
            return
        change = self.manager.sync_list(found.pk, result.profiles, yes)
        if isinstance(change, Refusal) and change.code == Code.TOO_MANY_REMOVALS:
            self.confirm_removals(change)
            # The question may have waited for minutes, and is only about this version of the list.
            change = self.manager.sync_list(found.pk, result.profiles, True, expected_version=found.version)
        self.report_change(found, self.require_accepted(change), dry_run, as_json)

    def confirm_removals(self, refusal: Refusal) -> None:
        question = printable(refusal.message.partition(" Check the list")[0])
        if not sys.stdin.isatty():
            raise CommandError(f"{question} Nothing was changed. Check the list, then repeat the command with --yes.")
        require_confirmed(f"{question} Remove them?", "Nothing was changed.")

    def correct(self, *, list: str, address: str, new_address: str, **options: Any) -> None:
        found = self.find_list(list)
        self.require_accepted(self.manager.correct_address(found.pk, address, new_address))
        self.stdout.write("The address was corrected.")

    def export(self, *, list: str, format: str, output: Path | None, **options: Any) -> None:
        members = rows_of(ListProfile.objects.all(), list=self.find_list(list))
        self.write_export(MEMBER_EXPORTERS[format](streams.stream_members(members)), output)

    def read(self, file: str, quiet: bool, **options: Any) -> ImportResult:
        result = read_list(file, options["format"], options["strict"])
        self.report_import(result, self.stderr if quiet else self.stdout)
        self.stdout.flush()  # fails before anything is changed
        return result

    def compare(self, found: ProfileList, result: ImportResult) -> ListChange:
        return self.require_accepted(self.manager.preview_sync(found.pk, result.profiles))

    def report_change(self, found: ProfileList, change: ListChange, dry_run: bool, as_json: bool) -> None:
        self.print_result(as_json, as_dict(change, public_fields.CHANGE), f"“{printable(found.name)}”: {change}")
        if dry_run:
            self.stderr.write("Dry run: nothing was saved.")

    # Its runs, and its deletion

    def run(self, *, list: str, now: bool, as_json: bool, **options: Any) -> None:
        batch = self.require_accepted(self.manager.run_list(self.find_list(list).pk))
        if not as_json:
            self.report_queued(batch)
        self.conclude_new(batch, now, as_json)

    def delete(self, *, list: str, yes: bool, **options: Any) -> None:
        found = self.find_list(list)
        if not yes and sys.stdin.isatty():
            total = pluralise(found.total_profiles, "profile")
            require_confirmed(f"Delete the list “{printable(found.name)}” with {total}?")
        self.require_accepted(self.manager.delete_list(found.pk, expected_version=found.version))
        self.stdout.write(f"“{printable(found.name)}” was deleted.")

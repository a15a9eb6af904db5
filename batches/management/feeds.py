"""`manage.py list feed create`, `revoke` and `list`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import transaction

from batches.conf import command_line
from batches.models import ListFeed, public_fields
from batches.text import printable, stored_line
from batches.web.feeds import addresses_of

from .base import JSON, ActionCommand
from .tables import FEEDS

FEED = ArgumentParser(add_help=False)
FEED.add_argument("list", metavar="LIST", help="The name or the ID of the list.")
FEED.add_argument("name", metavar="NAME", help="The name of the feed, such as the name of its readers.")


class FeedActions(ActionCommand):
    def add_feed_actions(self) -> None:
        description = "Publish the new stories of a list as a feed, or revoke a feed."
        with self.adding_to(self.add_action("feed", FeedActions.list_feeds, description)):
            description = "Create a feed, and print its addresses (Atom, JSON Feed), once only."
            self.add_action("create", FeedActions.create_feed, description, FEED, JSON)
            self.add_action("revoke", FeedActions.revoke_feed, "Revoke a feed: its addresses stop working.", FEED)
            listing = self.add_action("list", FeedActions.list_feeds, "List the feeds and their last use.", JSON)
            listing.add_argument("list", metavar="LIST", nargs="?", help="Its name or its ID (default: all lists).")

    def create_feed(self, *, list: str, name: str, as_json: bool, **options: Any) -> None:
        found = self.find_list(list)
        with transaction.atomic():
            created = self.require_accepted(self.manager.create_feed(found.pk, name))
            addresses = addresses_of(created)
            if as_json:
                urls = {f"{kind}_url": address for kind, address in addresses.items()}
                self.print_json({"feed": public_fields.as_dict(created.feed, public_fields.FEED)} | urls)
            else:
                self.print_lines(addresses.values())
                self.stderr.write("Both are below the address of your site. They will not be shown again.")
            self.require_delivered()

    def revoke_feed(self, *, list: str, name: str, **options: Any) -> None:
        found, wanted = self.find_list(list), stored_line(name)
        feed = ListFeed.objects.select_related("list").filter(list=found, name=wanted).first()
        if feed is None:
            advice = f"Show the feeds: {command_line('list feed list')}"
            raise CommandError(f"“{printable(found.name)}” has no feed “{printable(wanted)}”. {advice}")
        self.require_accepted(self.manager.revoke_feed(feed.pk))
        self.stdout.write(f"The feed “{printable(feed.name)}” of “{printable(feed.list.name)}” was revoked.")

    def list_feeds(self, *, list: str | None, as_json: bool, **options: Any) -> None:
        feeds = ListFeed.objects.select_related("list").order_by("list__name", "name")
        if list is not None:
            feeds = feeds.filter(list=self.find_list(list))
        nothing = f"No feeds. Create one: {command_line('list feed create LIST NAME')}"
        self.print_things(as_json, feeds, public_fields.FEED, FEEDS, nothing)

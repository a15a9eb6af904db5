"""The calls of BatchManager that create and revoke feeds of the new stories of a list."""

from dataclasses import dataclass
from typing import Literal

from django.db import transaction

from batches.models import Action, ListFeed
from batches.text import Sentence

from .refusals import NO_FEED, Code, Refused, refusable
from .values import FEED_NAME, as_number, clean_name, find_list, find_row
from .writer import QueueWriter


@dataclass(frozen=True, slots=True)
class NewFeed:
    """A feed with its key, of which only the hash is stored."""

    feed: ListFeed
    key: str


class FeedCalls(QueueWriter):
    @refusable
    def create_feed(self, list_id: object, name: str) -> NewFeed:
        """Create a feed of the list's new stories, for everybody with the key."""
        name = clean_name(name, FEED_NAME)
        with transaction.atomic():
            found = find_list(list_id, lock=True)
            if ListFeed.objects.filter(list=found, name=name).exists():
                message = Sentence(
                    "“%(list)s” already has a feed “%(name)s”. Choose another name, or revoke that one.",
                    list=found,
                    name=name,
                )
                raise Refused(Code.ALREADY_EXISTS, message)
            feed = ListFeed(list=found, name=name)
            key = feed.new_key()
            feed.save()
            self._log(None, Action.CREATE_FEED, f"“{name}”", list_id=found.pk)
        return NewFeed(feed, key)

    @refusable
    def revoke_feed(self, feed_id: object) -> Literal[True]:
        """Delete the feed. Its address then responds like one that never existed."""
        with transaction.atomic():
            feed = find_row(ListFeed.objects.select_for_update(), as_number(feed_id), feed_id, NO_FEED)
            feed.delete()
            self._log(None, Action.REVOKE_FEED, f"“{feed.name}”", list_id=feed.list_id)
        return True

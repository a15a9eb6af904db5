"""Writes stories as a feed: Atom (RFC 4287) and JSON Feed 1.1, from the same items, through Django's feed generator.

The bytes and the ETag of a feed change only when its stories change.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from io import BytesIO
from typing import Any
from uuid import UUID, uuid5

from django.utils.feedgenerator import Atom1Feed, SyndicationFeed, rfc3339_date

from batches.text import NOT_XML, is_web_address

from .addresses import host_of

UNTITLED = "(untitled)"


class AtomFeed(Atom1Feed):
    """Uses a constant time while it has no entries."""

    def latest_post_date(self) -> datetime:
        dates = [item["updateddate"] for item in self.items]
        return max(dates, default=self.feed["created_at"])  # type: ignore[no-any-return]


class JsonFeed(SyndicationFeed):
    content_type = "application/feed+json; charset=utf-8"

    def write(self, outfile: Any, encoding: str) -> None:
        feed = {
            "version": "https://jsonfeed.org/version/1.1",
            "title": self.feed["title"],
            "home_page_url": self.feed["link"],
            "items": [self._as_dict(item) for item in self.items],
        }
        outfile.write(json.dumps(feed, ensure_ascii=False, separators=(",", ":")).encode(encoding))

    def _as_dict(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": item["unique_id"],
            "url": item["link"],
            "title": item["title"],
            "content_text": item["title"],  # an item without content is not valid
            "date_published": rfc3339_date(item["pubdate"]),
            "date_modified": rfc3339_date(item["updateddate"]),
            "authors": [{"name": item["author_name"], "url": item["author_link"]}],
        }


#: By the end of the address.
FEEDS: Mapping[str, type[AtomFeed | JsonFeed]] = {"atom": AtomFeed, "json": JsonFeed}


def write_feed(kind: str, list_id: UUID, name: str, created_at: datetime, link: str, stories: Iterable[Any]) -> bytes:
    """The feed of these stories, each with its profile.

    It has no link to itself, which would reveal the key to anybody who receives its stories.
    """
    title = clean(name)
    feed = FEEDS[kind](
        title=title, author_name=title, link=link, description=None, feed_guid=list_id.urn, created_at=created_at
    )
    for story in stories:
        profile = story.profile
        address = clean(profile.url)
        feed.add_item(
            title=clean(story.title) or UNTITLED,
            link=clean(story.url) if is_web_address(story.url) else address,
            description=None,  # type: ignore[arg-type]  # "" would be an empty summary
            unique_id=uuid5(list_id, str(story.pk)).urn,
            author_name=clean(profile.name) or host_of(address),
            author_link=address,
            pubdate=story.published_at or story.found_at,
            updateddate=story.found_at,
        )
    out = BytesIO()
    feed.write(out, "utf-8")
    return out.getvalue()


def clean(text: str) -> str:
    """Remove characters that XML cannot express."""
    return NOT_XML.sub("", text).strip()

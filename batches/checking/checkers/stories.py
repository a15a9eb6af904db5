"""A feed's entries into stories: stable ids, plain titles, addresses that can be clicked, dates in UTC."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice

from batches.limits import MAX_STORY_ID, MAX_TITLE, MAX_URL
from batches.text import clean_text

from .base import Story
from .links import join_url
from .parse import MAX_STORIES, Entry, Feed

# Dates outside of these years are somebody's zero or somebody's infinity.
FIRST_YEAR, LAST_YEAR = 1900, 2199


def stories_of(feed: Feed, address: str) -> list[Story]:
    """The feed's stories in its order, each id once. `address` is the feed's, for relative links."""
    base = join_url(address, feed.base) if feed.base else address
    home = feed.home.strip().rstrip("/")
    found: dict[str, Story] = {}
    for entry in islice(feed.entries, MAX_STORIES):
        story = story_of(entry, base, home)
        if story is not None and story.id not in found:
            found[story.id] = story
    return list(found.values())


def story_of(entry: Entry, base: str, home: str) -> Story | None:
    """None for an entry that holds nothing."""
    title = plain_text(entry.get("title") or "")
    link = entry.get("link") or ""
    url = absolute_url(link, base)
    published = moment(entry.get("published"))
    identity = entry.get("id") or link
    # A link to the site's page says nothing about which story it is.
    if not identity or identity.rstrip("/") == home:
        summary = " ".join((entry.get("description") or "").split())
        content = (title, url, published.isoformat() if published else "", summary)
        if not any(content):
            return None
        identity = digest("\n".join(content))
    return Story(storable_id(identity), title, url, published)


def storable_id(identity: str) -> str:
    if len(identity) > MAX_STORY_ID:
        return digest(identity)
    return identity if identity.isprintable() else clean_text(identity, MAX_STORY_ID)


def digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# Only HTML's own tags are markup: a title may speak of a List<String>.
HTML_BREAK = re.compile(r"</?(?:br|p|div|li|ul|ol|h[1-6]|t[dhr])(?:\s[^<>]*)?/?>", re.IGNORECASE)
HTML_TAG = re.compile(
    r"</?(?:a|abbr|b|big|cite|code|del|dfn|em|font|i|img|ins|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|tt|u|var|wbr)"
    r"(?:\s[^<>]*)?/?>|<!--.*?(?:-->|\Z)",
    re.IGNORECASE | re.DOTALL,
)


def plain_text(markup: str) -> str:
    """A title as text: without tags and entities, white space collapsed, at most MAX_TITLE characters."""
    markup = markup[: 20 * MAX_TITLE]
    if "<" in markup:
        markup = HTML_TAG.sub("", HTML_BREAK.sub(" ", markup))
    if "&" in markup:
        markup = html.unescape(markup)
    text = " ".join(markup.split())
    return text[:MAX_TITLE] if text.isprintable() else clean_text(text, MAX_TITLE)


def absolute_url(link: str, base: str) -> str:
    """`link` as an http or https address, else empty: it becomes a link that people click."""
    if not link:
        return ""
    if not link.startswith(("http://", "https://")) or "[" in link:
        link = join_url(base, link)
    is_usable = link[:8].lower().startswith(("http://", "https://")) and len(link) <= MAX_URL and link.isprintable()
    return link if is_usable else ""


def moment(text: str | None) -> datetime | None:
    """A date in ISO 8601, in UTC; None where it is none or cannot be meant."""
    if not text:
        return None
    try:
        date = datetime.fromisoformat(text)
        if date.tzinfo is not UTC:
            date = date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return date if FIRST_YEAR <= date.year <= LAST_YEAR else None

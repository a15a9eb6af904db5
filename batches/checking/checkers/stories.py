"""Makes stories of a feed's entries: stable ids, plain titles, addresses that can be clicked, dates in UTC."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice

from batches.limits import MAX_STORY_ID, MAX_TITLE, MAX_URL
from batches.text import clean_text

from .base import Story
from .page import join_url
from .parse import MAX_STORIES, Entry, Feed

# Dates outside these years stand for zero or infinity.
FIRST_YEAR, LAST_YEAR = 1900, 2199


def make_stories(feed: Feed, address: str) -> list[Story]:
    """Return the feed's stories in its order, each id once. `address` is the feed's, for relative links."""
    base = join_url(address, feed.base) if feed.base else address
    home = feed.home.strip().rstrip("/")
    stories: dict[str, Story] = {}
    for entry in islice(feed.entries, MAX_STORIES):
        story = make_story(entry, base, home)
        if story is not None:
            stories.setdefault(story.id, story)
    return list(stories.values())


def make_story(entry: Entry, base: str, home: str) -> Story | None:
    """Returns None for an entry without content."""
    title = strip_markup(entry.get("title") or "")
    link = entry.get("link") or ""
    url = clean_link(link, base)
    published = parse_date(entry.get("published"))
    identity = entry.get("id") or link
    # A link to the site's own page does not identify a story.
    if not identity or identity.rstrip("/") == home:
        summary = " ".join((entry.get("description") or "").split())
        content = (title, url, published.isoformat() if published else "", summary)
        if not any(content):
            return None
        identity = hash_text("\n".join(content))
    return Story(clean_id(identity), title, url, published)


def clean_id(identity: str) -> str:
    if len(identity) > MAX_STORY_ID:
        return hash_text(identity)
    return identity if identity.isprintable() else clean_text(identity, MAX_STORY_ID)


def hash_text(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# Only HTML's own tags are markup: a title may mention a List<String>.
HTML_BREAK = re.compile(r"</?(?:br|p|div|li|ul|ol|h[1-6]|t[dhr])(?:\s[^<>]*)?/?>", re.IGNORECASE)
HTML_TAG = re.compile(
    r"</?(?:a|abbr|b|big|cite|code|del|dfn|em|font|i|img|ins|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|tt|u|var|wbr)"
    r"(?:\s[^<>]*)?/?>|<!--.*?(?:-->|\Z)",
    re.IGNORECASE | re.DOTALL,
)


def strip_markup(markup: str) -> str:
    """Return a title as text: without tags and entities, white space collapsed, at most MAX_TITLE characters."""
    markup = markup[: 20 * MAX_TITLE]
    if "<" in markup:
        markup = HTML_TAG.sub("", HTML_BREAK.sub(" ", markup))
    if "&" in markup:
        markup = html.unescape(markup)
    text = " ".join(markup.split())
    return text[:MAX_TITLE] if text.isprintable() else clean_text(text, MAX_TITLE)


def clean_link(link: str, base: str) -> str:
    """Return `link` as an http or https address, or "": people will click it."""
    if not link:
        return ""
    if not link.startswith(("http://", "https://")) or "[" in link:
        link = join_url(base, link)
    is_usable = link[:8].lower().startswith(("http://", "https://")) and len(link) <= MAX_URL and link.isprintable()
    return link if is_usable else ""


def parse_date(text: str | None) -> datetime | None:
    """Parse an ISO 8601 date into UTC. Returns None if it is invalid or implausible."""
    if not text:
        return None
    try:
        date = datetime.fromisoformat(text)
        if date.tzinfo is not UTC:
            date = date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return date if FIRST_YEAR <= date.year <= LAST_YEAR else None

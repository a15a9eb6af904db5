"""Turns a feed's entries into stories: stable ids, plain titles, safe links, dates in UTC."""

import html
import re
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256

from batches.limits import MAX_STORY_ID, MAX_TITLE, MAX_URL
from batches.text import UNSTORABLE, clean_text

from .base import Story
from .dates import parse_date
from .elements import Entry, is_absolute
from .page import join_url
from .parse import Feed

# Maximum length of a title that is taken from a story's text.
MAX_BEGINNING = 100


def make_stories(feed: Feed, address: str) -> list[Story]:
    """Return the feed's stories in its order, each id once. `address` is the feed's, for relative links."""
    base = join_url(address, feed.base)
    stories = [story for entry in feed.entries if (story := make_story(entry, address, base))]
    if len({story.id for story in stories}) == len(stories):
        return stories
    shared = find_shared_ids(stories)
    unique: dict[str, Story] = {}
    for story in stories:
        known = identify_by_content(story) if story.id in shared else story
        unique.setdefault(known.id, known)
    return list(unique.values())


def make_story(entry: Entry, address: str, base: str) -> Story | None:
    """Returns None for an entry without content."""
    title = strip_markup(entry.title)
    if entry.link.startswith("//"):  # only the scheme is missing, and the scheme of the feed works
        base = address
    elif entry.base:
        base = join_url(base, entry.base)
    url = clean_link(entry.link, base)
    published = next(filter(None, map(parse_date, entry.dates)), None)
    identity = entry.identity
    if not identity:
        text = entry.text if title or entry.text else entry.title  # the title may be a picture
        content = (title, url, format_date(published), " ".join(text.split()))
        if not any(content):
            return None
        identity = hash_text("\n".join(content))
    return Story(clean_id(identity), title or cut_beginning(entry.text), url, published)


def find_shared_ids(stories: Iterable[Story]) -> set[str]:
    """The ids of several different stories, which therefore identify none of them."""
    first: dict[str, Story] = {}
    return {
        story.id for story in stories if (known := first.setdefault(story.id, story)) is not story and known != story
    }


def identify_by_content(story: Story) -> Story:
    return story._replace(id=hash_text("\n".join((story.url, story.title, format_date(story.published)))))


def format_date(date: datetime | None) -> str:
    return date.isoformat() if date else ""


def clean_id(identity: str) -> str:
    if len(identity) > MAX_STORY_ID:
        return hash_text(identity)
    return identity if identity.isprintable() else UNSTORABLE.sub("", identity)


def hash_text(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# Only HTML's own tags are markup: a title may mention a List<String>.
HTML_BREAK = re.compile(r"</?(?:br|p|div|li|ul|ol|h[1-6]|t[dhr])(?:\s[^<>]*)?/?>", re.IGNORECASE)
HTML_TAG = re.compile(
    r"</?(?:a|abbr|b|big|cite|code|del|dfn|em|font|i|img|ins|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|tt|u|var|wbr)"
    r"(?:\s[^<>]*)?/?>|<!--.*?(?:-->|\Z)",
    re.IGNORECASE | re.DOTALL,
)
# Some generators escape the marks of a section.
SECTION = re.compile(r"<!\[CDATA\[(.*?)(?:\]\]>|\Z)", re.DOTALL)
# Control characters in the place of Windows-1252's, which were meant: browsers do the same.
WINDOWS_1252 = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}


def strip_markup(markup: str) -> str:
    """Return a title as text: without tags and entities, white space collapsed, at most MAX_TITLE characters."""
    markup = markup[: 20 * MAX_TITLE]
    if "<" in markup:
        markup = HTML_TAG.sub("", HTML_BREAK.sub(" ", SECTION.sub(r"\1", markup)))
    if "&" in markup:
        markup = html.unescape(markup)
    if not markup.isprintable():
        markup = markup.translate(WINDOWS_1252)
    text = " ".join(markup.split())
    return text[:MAX_TITLE] if text.isprintable() else clean_text(text, MAX_TITLE)


TAG = re.compile(r"<[a-z/!][^<>]*>", re.IGNORECASE)


def cut_beginning(markup: str) -> str:
    """The first words of a text, for a story without a title."""
    markup = TAG.sub("", HTML_BREAK.sub(" ", markup[: 20 * MAX_TITLE]))
    text = strip_markup(markup)
    if len(text) <= MAX_BEGINNING:
        return text
    return f"{text[:MAX_BEGINNING].rpartition(' ')[0] or text[:MAX_BEGINNING]}…"


def clean_link(link: str, base: str) -> str:
    """Return `link` as an http or https address, or "": people will click it."""
    if not link:
        return ""
    if not is_absolute(link):
        link = join_url(base, link)
        if not link[:8].lower().startswith(("http://", "https://")):
            return ""
    return link if len(link) <= MAX_URL and link.isprintable() else ""

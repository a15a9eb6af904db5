"""HTML pages: distinguishes them from feeds, and finds the feeds that a page declares."""

import re
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from itertools import islice
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from batches.lists.addresses import InvalidAddress, normalise_address

START = re.compile(rb"<(?:(?:[a-z][\w.-]*:)?(?P<feed>rss|feed|rdf)|!doctype\s+html|html|head|body)[\s>]", re.IGNORECASE)
COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
# Warnings of the site's software may precede the document.
SNIFFED_BYTES = 4096


def is_html(document: bytes, content_type: str) -> bool:
    """Whether `document` is a page. Its start decides, otherwise its content type."""
    start = START.search(document, 0, SNIFFED_BYTES)
    if start and not start["feed"]:
        start = START.search(COMMENT.sub(b"", document[:SNIFFED_BYTES]))
    if start and start["feed"]:
        return False
    return bool(start or "html" in content_type.lower()) and document.lstrip()[:1] != b"{"


# Finds the relevant tags and skips text that cannot contain tags. A tree of the whole page would take ten times its
# size in memory.
TOKEN = re.compile(
    rb"""<!--.*?(?:-->|\Z)
    | <(?P<raw>script|style|textarea|title|template|iframe|xmp)\b (?: [^<>]*+(?<=/)> | .*?(?:</(?P=raw)\b|\Z) )
    | (?P<tag> <(?:link|base|meta)\b [^<>"']*+ (?:(?:"[^"]{0,2000}+"|'[^']{0,2000}+') [^<>"']*+){0,50}+ >)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
# A page has tens of them.
MAX_LINK_TAGS = 500
MAX_TAG_BYTES = 4000
# In an attribute, "&section=2" contains no entity. The HTMLParser of older Pythons reads "§ion=2".
BARE_AMPERSAND = re.compile(rb"&(?=[a-z0-9]+=)", re.IGNORECASE)

# The most certain types first. The last ones are also declared for other things, such as WordPress's API.
FEED_TYPES = {
    "application/rss+xml": 0, "application/atom+xml": 0, "application/feed+json": 0,
    "application/xml": 1, "text/xml": 1, "application/json": 2,
}  # fmt: skip
LIKE_FEED_TYPE = re.compile(r"rss|atom|rdf")
NAMED_LIKE_FEED = re.compile(r"\b(?:rss|atom|feed)\b", re.IGNORECASE)
COMMENTS = re.compile(r"\bcomments?\b|kommentar|comentario|commentaire|commenti\b", re.IGNORECASE)
OF_COMMENTS = 3  # added to their ranks
# Each is a request.
MAX_FEEDS = 5

LINK_HEADER = re.compile(r"""<([^<>]*)>((?:\s*;\s*[\w*-]+\s*=\s*(?:"[^"]*"|[^\s",;]*))*)""")
PARAMETER = re.compile(r""";\s*([\w*-]+)\s*=\s*(?:"([^"]*)"|([^\s",;]*))""")
MAX_HEADER = 10_000

REFRESH = re.compile(
    r"""\s*+(\d{1,4})[\d.]*+\s*+[;,]?+\s*+(?:url\s*+=\s*+)?+(?:"([^"]+)"?|'([^']+)'?|([^\s"'].*))\s*""",
    re.IGNORECASE | re.DOTALL,
)
# A page with a longer delay, or one that reloads itself, is meant to be read.
MAX_REFRESH_SECONDS = 10


class Declared(NamedTuple):
    """The links of a page: its feeds, the best first, and the address to which it refreshes at once."""

    feeds: Sequence[str] = ()
    refresh: str = ""


class TagReader(HTMLParser):
    """Reads the attributes of one tag, with names in lower case and entities resolved."""

    def __init__(self, tag: bytes) -> None:
        super().__init__()
        self.name = ""
        self.attributes: dict[str, str] = {}
        self.feed(BARE_AMPERSAND.sub(b"&amp;", tag).decode("utf-8", "replace"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.name = tag
        # The first of repeated attributes counts.
        self.attributes = {name: value or "" for name, value in reversed(attrs)}


def read_page(document: bytes, address: str, link_header: str = "", refresh_header: str = "") -> Declared:
    """Find what the page (UTF-8) at `address` declares, in itself or in the headers of its response."""
    base = address
    refresh = find_refresh(refresh_header, address)
    ranks: dict[str, int] = {}
    tags = list(find_tags(document))
    if href := next((tag.attributes["href"] for tag in tags if tag.name == "base" and tag.attributes.get("href")), ""):
        base = join_url(address, href.strip())
    for tag in tags:
        if tag.name == "link":
            add_feed(ranks, tag.attributes, base)
        elif tag.name == "meta" and tag.attributes.get("http-equiv", "").strip().lower() == "refresh":
            refresh = refresh or find_refresh(tag.attributes.get("content", ""), base)
    for href, parameters in LINK_HEADER.findall(link_header[:MAX_HEADER]):
        named = {name.lower(): quoted or bare for name, quoted, bare in reversed(PARAMETER.findall(parameters))}
        add_feed(ranks, {**named, "href": href}, address)
    feeds = sorted(ranks, key=lambda url: ranks[url])[:MAX_FEEDS]
    # If the feed of the stories fails, that of the comments must not be remembered in its place.
    of_stories = [url for url in feeds if ranks[url] < OF_COMMENTS]
    return Declared(of_stories or feeds, "" if refresh == normalise_or_empty(address) else refresh)


def find_tags(document: bytes) -> Iterator[TagReader]:
    tags = (match["tag"] for match in TOKEN.finditer(document) if match["tag"])
    # Of the `meta` elements, only the one with a refresh matters. Reading a tag takes 20 µs.
    wanted = (tag for tag in tags if tag[1:5].lower() != b"meta" or b"refresh" in tag.lower())
    for tag in islice(wanted, MAX_LINK_TAGS):
        if len(tag) <= MAX_TAG_BYTES:
            yield TagReader(tag)


def add_feed(ranks: dict[str, int], link: Mapping[str, str], base: str) -> None:
    """Add the address of a link if it is a feed's."""
    rank = rank_link(link)
    if rank is None or not link.get("href", "").strip():
        return
    if url := make_url(link["href"], base):
        is_of_comments = COMMENTS.search(f"{link.get('title', '')} {urlsplit(url).path}")
        ranks.setdefault(url, rank + (OF_COMMENTS if is_of_comments else 0))


def rank_link(link: Mapping[str, str]) -> int | None:
    """Return the rank of a link by its certainty to lead to a feed, 0 for the best; None if it does not."""
    relations = link.get("rel", "").lower().split()
    kind = link.get("type", "").partition(";")[0].strip().lower()
    if "alternate" in relations:
        if kind in FEED_TYPES:
            return FEED_TYPES[kind]
        if LIKE_FEED_TYPE.search(kind):
            return 1
        if not kind and NAMED_LIKE_FEED.search(f"{link.get('title', '')} {link.get('href', '')}"):
            return 2
    return 1 if "feed" in relations else None


def find_refresh(text: str, base: str) -> str:
    """The address in the content of "Refresh", or ""."""
    match = REFRESH.fullmatch(text[:MAX_HEADER])
    if match is None or int(match[1]) > MAX_REFRESH_SECONDS:
        return ""
    return make_url(match[2] or match[3] or match[4], base)


def make_url(href: str, base: str) -> str:
    """Return the normalised address, or "" for a link that cannot be followed."""
    href = "".join(href.strip().splitlines()).replace(" ", "%20")
    return normalise_or_empty(join_url(base, href))


def join_url(base: str, link: str) -> str:
    """Make `link` absolute. Returns "" if one of the two is not valid."""
    try:
        return urljoin(base, link)
    except ValueError:
        return ""


def normalise_or_empty(text: str) -> str:
    try:
        return normalise_address(text)
    except InvalidAddress:
        return ""

"""Finds the items of a feed in an XML document, and in each item the texts that make a story."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from lxml import etree


class Entry(NamedTuple):
    """One item, with its texts unchanged. `dates` has the best first; its links are relative to `base`."""

    identity: str = ""
    title: str = ""
    link: str = ""
    dates: Sequence[str] = ()
    base: str = ""
    text: str = ""


HEADS = frozenset({"rss", "rdf", "feed", "channel"})
ITEMS = frozenset({"item", "entry"})
ITEM_TAGS = [f"{{*}}{name}" for name in sorted(ITEMS)]
# The elements of an item, the best first. Those in the item's own namespace have no prefix here; "*" is any other
# namespace. Documents that declare none, or a wrong one, use the same prefixes.
DATES = (
    "pubdate", "published", "issued", "dc:date", "date", "dcterms:issued", "dcterms:created", "created",
    "atom:published", "updated", "modified", "dcterms:modified", "atom:updated",
)  # fmt: skip
TITLES = ("title", "dc:title", "atom:title", "*:title")
IDS = ("guid", "id", "atom:id", "about")
TEXTS = (
    "description", "summary", "content", "*:encoded", "atom:summary", "atom:content", "dc:description",
    "*:description", "*:summary", "body", "*:body", "fullitem",
)  # fmt: skip
# The text of "link", then hrefs by their name from `name_relation`, and others that a reader can open.
LINKS = ("alternate", "link", "unnamed", "other type", "guid", "id", "about", "related", "via", "enclosure")
MAY_BE_LINK = frozenset({"guid", "id", "about"})
ADDRESSES = frozenset({"link", "atom:link", "*:link", "enclosure"})
FIELDS = ADDRESSES.union(TITLES, IDS, DATES)
WANTED = FIELDS.union(TEXTS)
PREFIXES = {"dc": "dc", "dcterms": "dcterms", "dct": "dcterms", "atom": "atom", "atom10": "atom", "a10": "atom"}
# Without their scheme and their end: some feeds change "http" in all addresses.
NAMESPACES = {
    "purl.org/dc/elements/1.1": "dc",
    "purl.org/dc/elements/1.0": "dc",
    "purl.org/dc/terms": "dcterms",
    "www.w3.org/2005/atom": "atom",
    "purl.org/atom/ns": "atom",
}
READABLE_TYPES = frozenset({"", "text/html", "application/xhtml+xml"})
# These separate words in a text.
BLOCKS = [f"{{*}}{name}" for name in ("br", "p", "div", "li", "h1", "h2", "h3", "h4", "h5", "h6", "td")]
# Of names with their namespaces. Longer ones are not kept in memory.
MAX_TAG = 120
MAX_TAGS = 1000
BASE = "{http://www.w3.org/XML/1998/namespace}base"
ABOUT = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}about"


def find_items(root: etree._Element) -> Iterator[etree._Element]:
    """The items that are not within another."""
    known_parent = None  # most items are siblings
    for item in root.iter(*ITEM_TAGS):
        parent = item.getparent()
        if parent is None or parent is known_parent or ITEMS.isdisjoint(map(local_name, item.iterancestors())):
            known_parent = parent
            yield item


def find_head(root: etree._Element) -> etree._Element | None:
    """The element with the site's title and link; None if the document is not a feed."""
    head = next(root.iter("{*}channel", "{*}feed"), None)
    return next(root.iter("{*}rss", "{*}RDF", *ITEM_TAGS), None) if head is None else head


def find_home(head: etree._Element) -> str:
    """The address of the site's page, unchanged."""
    found: dict[str, str] = {}
    for link in head.iterchildren("{*}link"):
        keep_field(found, "link", link)
    return pick(("link", "alternate", "unnamed"), found)


def read_entry(item: etree._Element, home: str) -> Entry:
    found = find_fields(item)
    link = find_link(found)
    identity = find_identity(pick(IDS, found), link, home)
    dates = [found[name] for name in DATES if name in found]
    base = find_base(item) if link and not is_absolute(link) else ""
    entry = Entry(identity, pick(TITLES, found), link, dates, base)
    if needs_text(entry):
        return entry._replace(text=pick(TEXTS, find_fields(item, frozenset(TEXTS))))
    return entry


def find_identity(identity: str, link: str, home: str) -> str:
    """The id, otherwise the link, unless it leads to the site's own page, as the links of other items may do."""
    identity = identity or link
    return "" if identity.rstrip("/") == home.rstrip("/") else identity


def needs_text(entry: Entry) -> bool:
    return not (entry.title and entry.identity)


def find_fields(item: etree._Element, wanted: frozenset[str] = FIELDS) -> dict[str, str]:
    """The texts and addresses of an item by their names. The first of each name counts."""
    found: dict[str, str] = {}
    names = find_names(item.tag)
    for child in item[:]:  # type: ignore[index]  # three times as fast as an iterator
        name = names[child.tag]
        if name in wanted and name not in found:
            keep_field(found, name, child)
    if item.keys() and (about := item.get(ABOUT) or item.get("href")):
        found["about"] = about.strip()
    return found


def keep_field(found: dict[str, str], name: str, element: etree._Element) -> None:
    if name not in ADDRESSES or (name == "link" and not element.get("href")):
        text = gather_text(element) if len(element) else element.text
    elif name == "enclosure":
        text = element.get("url")
    else:
        text, name = element.get("href"), name_relation(element)
    if text and name not in found and (text := text.strip()):
        found[name] = text


def find_link(found: Mapping[str, str]) -> str:
    for name in LINKS:
        if name in found and (name not in MAY_BE_LINK or is_address(found[name])):
            return found[name]
    return ""


def find_base(item: etree._Element) -> str:
    """The `xml:base` of the item's link, otherwise of the item, resolved against all elements around it."""
    return next((link for link in item.iterchildren("{*}link") if link.get(BASE)), item).base or ""


def pick(names: Iterable[str], found: Mapping[str, str]) -> str:
    for name in names:
        if name in found:
            return found[name]
    return ""


class Names(dict[str, str]):
    """The names of elements by their tags, in items with the tag `item_tag`."""

    def __init__(self, item_tag: str) -> None:
        super().__init__()
        self._own = item_tag[1:].rpartition("}")[0]

    def __missing__(self, tag: object) -> str:
        if not isinstance(tag, str) or len(tag) > MAX_TAG:  # an entity has a function as its tag
            return ""
        if len(self) >= MAX_TAGS:
            self.clear()
        return self.setdefault(tag, classify(tag, self._own))


find_names = lru_cache(maxsize=20)(Names)


def classify(tag: str, own: str) -> str:
    """Return the name of an element as in the lists above, or "" if it is not wanted."""
    if tag.startswith("{"):
        space, _, name = tag[1:].lower().rpartition("}")
        prefix = "" if space == own.lower() else NAMESPACES.get(space.partition("://")[2].rstrip("/#"), "*")
    else:
        prefix, _, name = tag.lower().rpartition(":")
        prefix = PREFIXES.get(prefix, "*") if prefix else ""
    name = f"{prefix}:{name}" if prefix else name
    if name not in WANTED:
        name = f"*:{name.rpartition(':')[2]}" if prefix else ""
    return name if name in WANTED else ""


def local_name(element: etree._Element) -> str:
    return element.tag.rpartition("}")[2].lower() if isinstance(element.tag, str) else ""


def name_relation(link: etree._Element) -> str:
    relation = link.get("rel", "").strip().lower().rpartition("/")[2]
    kind = link.get("type", "").partition(";")[0].strip().lower()
    if relation in ("", "alternate") and kind not in READABLE_TYPES:
        return "other type"
    return relation or "unnamed"


def gather_text(element: etree._Element) -> str:
    for block in element.iter(*BLOCKS):
        block.text = f" {block.text or ''}"
    return "".join(map(str, element.itertext()))


def is_absolute(link: str) -> bool:
    """Whether `link` needs no base. One with a bracket may not be valid."""
    return link.startswith(("http://", "https://")) and "[" not in link


def is_address(text: str) -> bool:
    """Whether an id is also an address; it may be relative."""
    return text.startswith(("http://", "https://", "/"))

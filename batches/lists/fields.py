"""The names of the fields for address and name of an entry: columns in CSV, keys in JSON, attributes in OPML."""

from collections.abc import Sequence
from functools import lru_cache

#: The best first. `url` precedes `feed_url`, because our own exports have both.
ADDRESS_FIELDS = (
    *("xmlurl", "url", "feedurl", "rssurl", "atomurl", "feed", "rss", "atom", "rssfeed", "feedlink", "feedaddress"),
    *("channelurl", "profileurl", "urls", "feeds", "feedurls", "uri", "href", "address", "addresses", "link", "links"),
    *("htmlurl", "weburl", "website", "websiteurl", "websites", "siteurl", "site", "sites", "homepage", "homepageurl"),
    *("blog", "blogurl", "page", "pageurl", "profile", "channel"),
)
NAME_FIELDS = (
    *("name", "title", "text", "label", "feedtitle", "feedname", "channeltitle", "channelname", "profilename"),
    *("sitetitle", "sitename", "websitetitle", "websitename", "blogtitle", "blogname", "pagetitle"),
)


def simplify(field: str) -> str:
    """`Feed URL`, `feed_url` and `feedUrl` are one field."""
    return "".join(filter(str.isalnum, field)).lower()


@lru_cache(maxsize=8)  # nearly all entries of a list have the same fields
def rank_fields(fields: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The fields with the address, and those with the name, each with the best first."""
    return rank(fields, ADDRESS_FIELDS), rank(fields, NAME_FIELDS)


def rank(fields: Sequence[str], known: Sequence[str]) -> list[str]:
    """The known fields, the best first."""
    by_name = {simplify(field): field for field in reversed(fields)}  # the first of two equal ones counts
    return [by_name[name] for name in known if name in by_name]

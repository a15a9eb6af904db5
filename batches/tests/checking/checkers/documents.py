"""Feeds and pages as bytes."""

from __future__ import annotations

RSS = '<?xml version="1.0"?><rss version="2.0"><channel><title>Site</title><link>http://site.example/</link>{}</channel></rss>'
ATOM = '<?xml version="1.0" encoding="utf-8"?><feed xmlns="http://www.w3.org/2005/Atom"><title>Site</title>{}</feed>'
RDF = (
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="{namespace}"'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/"><channel><title>Site</title></channel>{}</rdf:RDF>'
)


def rss(*items: str) -> bytes:
    return RSS.format("".join(f"<item>{item}</item>" for item in items)).encode()


def atom(*entries: str) -> bytes:
    return ATOM.format("".join(f"<entry>{entry}</entry>" for entry in entries)).encode()


def item(number: int) -> str:
    return (
        f"<title>Story {number}</title><link>http://site.example/{number}</link><guid>tag:{number}</guid>"
        f"<pubDate>Mon, 02 Jan 2006 15:04:{number:02} GMT</pubDate><description>About {number}</description>"
    )


def page(head: str = "", body: str = "") -> bytes:
    return f"<!DOCTYPE html><html><head><title>Page</title>{head}</head><body>{body}</body></html>".encode()


def link(href: str, kind: str = "application/rss+xml", rel: str = "alternate") -> str:
    return f'<link rel="{rel}" type="{kind}" href="{href}">'

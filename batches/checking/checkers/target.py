"""Addresses to fetch, read by the parser of the client that connects to them: two parsers could see two hosts."""

import re
from typing import NamedTuple
from urllib.parse import quote_from_bytes

import idna
import pycurl

from .base import FetchError

PORTS = {"http": 80, "https": 443}

# Keep dot segments. Let libcurl parse other schemes, so that the reason can name them; they are refused below.
AS_WRITTEN = pycurl.U_PATH_AS_IS | pycurl.U_NON_SUPPORT_SCHEME

START = re.compile(r"(?:([a-z][a-z0-9+.-]*):)?(?://([^/?#]*))?", re.ASCII | re.IGNORECASE)  # scheme and authority
# A name has at most 253 characters. Converting the 64 kB that fit into a header blocked the event loop for 1 s.
MAX_AUTHORITY = 300
IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")  # libcurl's spelling of all forms of an IPv4 address
IGNORED = dict.fromkeys(map(ord, "\t\r\n"))  # as browsers do
CLEAN = re.compile(r"[!#-;=?-\[\]_a-z~]*")
TO_QUOTE = re.compile(r"[^!#-;=?-\[\]_a-z~]+")  # all but the printable ASCII that an address can contain


class Target(NamedTuple):
    """An http(s) address without a fragment. `host` is in lower case and without brackets."""

    url: str
    host: str
    port: int
    is_numeric: bool  # the host is an IP address

    @property
    def path(self) -> str:
        """The path and query to request. libcurl itself would change "%c3" to "%C3"."""
        return "/" + self.url.split("/", 3)[3]


def parse_url(text: str, subject: str, base: str = "") -> Target:
    """Parse an address to fetch; it may be relative to `base`. Raises FetchError about the `subject`."""
    text = text.strip()
    is_clean = CLEAN.fullmatch(text) is not None
    text = text if is_clean else text.translate(IGNORED)
    start = START.match(text)
    scheme, authority = start.groups() if start else (None, None)
    if authority and len(authority) > MAX_AUTHORITY:
        raise FetchError(f"{subject} has a host name that is too long")
    if (scheme and scheme.lower() not in PORTS) or not (scheme or base):
        raise FetchError(f"{subject} is not http or https")
    if scheme and authority == "":
        raise FetchError(f"{subject} has no host")
    try:
        text = text if is_clean else _to_ascii(text, authority)
        url = pycurl.CurlUrl(text, AS_WRITTEN) if scheme else pycurl.CurlUrl(_join(base, text))
        return _make_target(url, subject, text if authority else "")
    except (pycurl.error, ValueError):
        raise FetchError(f"{subject} is not valid") from None


def _make_target(url: pycurl.CurlUrl, subject: str, written: str) -> Target:
    if url.user is not None:
        raise FetchError(f"{subject} contains a user name or password")
    host = url.host.lower()
    if not host.isascii():  # it was percent-encoded
        raise ValueError
    is_ipv4 = IPV4.fullmatch(host) is not None
    if is_ipv4 and written and host not in written:  # it was "127.1", or "0x7f.0.0.1"
        raise ValueError
    name = host.strip("[]")
    port = int(url.port or PORTS[url.scheme])
    return Target(url.url.partition("#")[0], name, port, is_ipv4 or name != host)


def _to_ascii(text: str, authority: str | None) -> str:
    """Percent-encode only characters that a request cannot contain: some servers distinguish "%7E" and "~"."""
    start, _, rest = text.partition("//") if authority else ("", "", text)
    quoted = TO_QUOTE.sub(_quote, rest[len(authority or "") :])
    return f"{start}//{_host_to_ascii(authority)}{quoted}" if authority else quoted


def _join(base: str, text: str) -> str:
    """RFC 3986, 5.2.3. libcurl's own changes the case of escapes, and Python's removes one of two slashes."""
    path = base.partition("?")[0]
    if text.startswith("//"):
        return base.partition("//")[0] + text
    if text.startswith("/"):
        return "/".join(base.split("/", 3)[:3]) + text
    if text.startswith("?"):
        return path + text
    return path[: path.rindex("/") + 1] + text if text and text[0] != "#" else base


def _host_to_ascii(authority: str) -> str:
    if "\\" in authority:  # browsers read a "/"
        raise ValueError
    if authority.isascii() or "@" in authority:
        return authority
    host, colon, port = authority.partition(":")
    return idna.encode(host, uts46=True).decode() + colon + port


def _quote(match: re.Match[str]) -> str:
    # Bytes of a header that are not UTF-8 stay as they are.
    return quote_from_bytes(match[0].encode("utf-8", "surrogateescape"), safe="")

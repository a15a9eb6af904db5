"""The one spelling of an address under which a profile is stored: RFC 3986 normalisation, IDNA 2008 for the host."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

import idna

from batches.limits import MAX_URL

DEFAULT_PORTS = {"http": 80, "https": 443}

# The structure of RFC 3986, appendix B. Not urlsplit(): what that strips and refuses changes between patch releases of
# Python, and the result is a unique key. ASCII, because with Unicode rules "ſ" would match the "s" of https.
_ADDRESS = re.compile(r"(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.IGNORECASE | re.ASCII)
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:(?![0-9])", re.IGNORECASE | re.ASCII)
_HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")

# What no host has, and would make the rest of it a path, a query or a password.
_NOT_IN_HOST = re.compile(r"[/?#@\s\\]")
_HAS_PORT = re.compile(r":[0-9]*$")

_FORBIDDEN = re.compile(r"[\s\x00-\x1f\x7f-\x9f\\\ud800-\udfff]")
_INVISIBLE_ENDS = "\ufeff\u200b\u2060"
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_TO_ENCODE = re.compile(r"%([0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?]")


class InvalidAddress(ValueError):
    """The text is no address that can be checked; `str(error)` says why, in one sentence."""


def normalise_address(text: str) -> str:
    """The http or https address in `text` in its normal form: ASCII, at most 2,000 characters, no fragment.

    Two spellings that RFC 3986 calls equivalent give the same result, and the result gives itself. Scheme and host are
    in lower case, the host is in its ASCII form (IDNA 2008 with UTS 46) and without a final dot; a default port and an
    empty query are left out, an empty path is "/", dot segments are gone, percent-encoding is in its normal form. The
    query keeps its order. As feed readers export them, `feed://host` is read as `http://host`, and `feed:https://host`
    as `https://host`.

    Raises InvalidAddress for everything else, also for credentials: everybody who sees the profile would see them.
    """
    text = text.strip().strip(_INVISIBLE_ENDS).strip()
    if len(text) > MAX_URL:
        raise InvalidAddress(f"It is longer than {MAX_URL:,} characters.")
    if forbidden := _FORBIDDEN.search(text):
        raise InvalidAddress(f"It contains {_describe(forbidden[0])}.")
    parts = _ADDRESS.fullmatch(_without_feed_scheme(text))
    if not parts:
        raise InvalidAddress(_why_not_http(text))
    scheme, authority, path, query = parts.groups(default="")
    scheme = scheme.lower()
    address = f"{scheme}://{_normalise_authority(authority, scheme)}{_normalise_path(path)}"
    if query:
        address += "?" + _normalise_escapes(query)
    if len(address) > MAX_URL:
        raise InvalidAddress(f"It is longer than {MAX_URL:,} characters in its percent-encoded form.")
    return address


def address_prefixes(host: str) -> list[str]:
    """How normalised addresses begin at a host: at any port, unless one is given with it ("example.org:8080").

    Raises InvalidAddress for what is no host.
    """
    if _NOT_IN_HOST.search(host):
        raise InvalidAddress("Write a host alone, such as example.org or example.org:8080.")
    sites = [normalise_address(f"{scheme}://{host}") for scheme in DEFAULT_PORTS]
    return sites if _HAS_PORT.search(host) else [*sites, *(f"{site.removesuffix('/')}:" for site in sites)]


def host_of(url: str) -> str:
    """The host of a normalised address, with its port if it has one. urlsplit() takes ten times as long."""
    return url.partition("://")[2].partition("/")[0]


def hostname_of(url: str) -> str:
    """The host of a normalised address without port and brackets: what a resolver or a socket takes."""
    return _HAS_PORT.sub("", host_of(url)).strip("[]")


def _describe(character: str) -> str:
    if character == "\0":
        return "a NUL character"
    if character == "\\":
        return 'a backslash; an address has "/"'
    if character.isspace():
        return "a space or other white space"
    if character >= "\ud800":
        return "bytes that are not UTF-8, or half of a surrogate pair"
    return f"a control character (U+{ord(character):04X})"


def _without_feed_scheme(text: str) -> str:
    if text[:5].lower() != "feed:":
        return text
    rest = text[5:]
    return f"http:{rest}" if rest.startswith("//") else rest


def _why_not_http(text: str) -> str:
    if not text:
        return "It is empty."
    scheme = _SCHEME.match(text)
    if not scheme:
        return "It does not say http or https; start it with https://."
    if scheme[0].lower() in {"http:", "https:", "feed:"}:
        return "It must begin with http:// or https://, with two slashes."
    return f'It begins with "{scheme[0][:30]}", and only http:// and https:// can be checked.'


def _normalise_authority(authority: str, scheme: str) -> str:
    if "@" in authority:
        raise InvalidAddress("It contains a user name or password before the host; leave them out.")
    parts = _AUTHORITY.fullmatch(authority)
    if not parts:
        raise InvalidAddress(f'"{authority[:80]}" is not a host with an optional port.')
    host = _normalise_host(parts[1])
    port = int(parts[2] or DEFAULT_PORTS[scheme])
    if not 1 <= port <= 65535:
        raise InvalidAddress("Its port is not between 1 and 65535.")
    return host if port == DEFAULT_PORTS[scheme] else f"{host}:{port}"


def _normalise_host(host: str) -> str:
    if not host:
        raise InvalidAddress("It has no host name.")
    if host.startswith("["):
        return _normalise_ipv6(host)
    name = (host.lower() if host.isascii() else _to_ascii(host)).removesuffix(".")
    if len(name) > 253 or not _HOST_NAME.fullmatch(name):
        raise InvalidAddress(f'"{host[:80]}" is not a valid host name.')
    # Resolvers read 127.1, 0x7f.1 and 2130706433 as IPv4 addresses; one spelling is enough.
    if _ENDS_IN_NUMBER.fullmatch(name) and not _is_ipv4(name):
        raise InvalidAddress(f'"{host[:80]}" is not a valid IPv4 address.')
    return name


def _normalise_ipv6(host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host[1:-1])
    except ValueError:
        address = None
    if address is None or address.scope_id is not None:
        raise InvalidAddress(f'"{host[:80]}" is not a valid IPv6 address.')
    return f"[{address.compressed}]"


def _is_ipv4(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


# idna takes 20 µs a host, six times the rest; many profiles of one site share theirs.
@lru_cache(maxsize=1024)
def _to_ascii(host: str) -> str:
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except UnicodeError as error:
        raise InvalidAddress(f'"{host[:80]}" is not a valid host name: {error}.') from error


def _normalise_path(path: str) -> str:
    # The escapes first: "%2E%2E" is a dot segment too.
    return _without_dot_segments(_normalise_escapes(path)) or "/"


def _normalise_escapes(text: str) -> str:
    return _TO_ENCODE.sub(_normalise_escape, text)


def _normalise_escape(match: re.Match[str]) -> str:
    if not match[1]:
        return "".join(f"%{byte:02X}" for byte in match[0].encode())
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0].upper()


def _without_dot_segments(path: str) -> str:
    """RFC 3986, section 5.2.4, for a path that is empty or begins with "/"."""
    if "/." not in path:
        return path
    segments = path.split("/")[1:]
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in {".", ".."}:
        kept.append("")
    return "/" + "/".join(kept)

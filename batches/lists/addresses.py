"""Normalises addresses: RFC 3986 for the address, IDNA 2008 for the host. The result is a profile's unique key."""

import ipaddress
import re
import unicodedata
from functools import lru_cache

import idna

from batches.limits import MAX_URL
from batches.text import Sentence

DEFAULT_PORTS = {"http": 80, "https": 443}

# RFC 3986, appendix B. Not urlsplit(): what it strips and rejects changes between patch releases of Python, and the
# result is a unique key. ASCII, because "ſ" matches the "s" of https under Unicode rules.
_ADDRESS = re.compile(r"(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.IGNORECASE | re.ASCII)
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:(?![0-9])", re.IGNORECASE | re.ASCII)
_HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")

# The schemes of programs that subscribe to feeds, and what they stand for.
_READER_SCHEMES = {"feed": "http", "feeds": "https", "itpc": "http", "pcast": "http"}
_SCHEMES = (*DEFAULT_PORTS, *_READER_SCHEMES)
_READER_SCHEME = re.compile(rf"\A({'|'.join(_READER_SCHEMES)})://", re.IGNORECASE | re.ASCII)
# "feed:https://…", "http://https://…", and "http://https//…", which browsers make of it.
_SOME_SCHEME = rf"(?:{'|'.join(_SCHEMES)})"
_EXTRA_SCHEMES = re.compile(
    rf"\A(?:{_SOME_SCHEME}:(?://)?)+(?=(?:{_SOME_SCHEME}:|https?)//[^/])", re.IGNORECASE | re.ASCII
)
_SCHEME_WITHOUT_COLON = re.compile(r"\A(https?)//", re.IGNORECASE | re.ASCII)

# These would turn the rest of a host into a path, a query or a password.
_NOT_IN_HOST = re.compile(r"[/?#@\s\\]")
_HAS_PORT = re.compile(r":[0-9]*$")

_FORBIDDEN = re.compile(r"[\s\x00-\x1f\x7f-\x9f\\\ud800-\udfff]")
_INVISIBLE_ENDS = "\ufeff\u200b\u2060"
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_TO_ENCODE = re.compile(r"%([0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?]")


# Most addresses of a list are already in their normal form. This matches only such addresses, in a tenth of the time.
# The dot in the host excludes names of schemes, and the letter after it excludes IPv4 addresses.
_LETTERS = r"A-Za-z0-9\-._~!$&'()*+,;=:@"
_NORMAL = re.compile(
    r"(?!.{254})https?+://(?:[a-z0-9_-]{1,63}+\.)++[a-z][a-z0-9_-]{0,62}+"
    rf"(?:/(?!\.)[{_LETTERS}]*+)++(?:\?[{_LETTERS}/?]++)?+"
)


class InvalidAddress(ValueError):
    """The text is not an address that can be checked. `str(error)` is one sentence that says why."""


def normalise_address(text: str) -> str:
    """Return the http or https address in `text` in its normal form: ASCII, at most MAX_URL characters, no fragment.

    Spellings that RFC 3986 calls equivalent give the same result, and the result is its own normal form: scheme and
    host in lower case, the host in ASCII (IDNA 2008 with UTS 46) without a final dot, no default port, no empty query,
    no dot segments, "/" for an empty path, normal percent-encoding. The query keeps its order. The schemes of feed
    readers (`feed://host`, `feed:https://host`) stand for http or https, and of several schemes the last one counts.

    Raises InvalidAddress for everything else. Credentials are invalid because everybody who sees the profile sees them.
    """
    return text if _NORMAL.fullmatch(text) else _normalise(text)


def _normalise(text: str) -> str:
    text = text.strip().strip(_INVISIBLE_ENDS).strip()
    if len(text) > MAX_URL:
        raise InvalidAddress(Sentence("It is longer than %(most)s characters.", most=MAX_URL))
    if forbidden := _FORBIDDEN.search(text):
        raise InvalidAddress(_describe(forbidden[0]))
    parts = _ADDRESS.fullmatch(text)
    if not parts or parts[2].rstrip(":").lower() in _SCHEMES:
        parts = _ADDRESS.fullmatch(_with_one_web_scheme(text))
    if not parts:
        raise InvalidAddress(_why_not_http(text))
    scheme, authority, path, query = parts.groups(default="")
    scheme = scheme.lower()
    host = _normalise_authority(authority, scheme)
    # Decode escapes first: "%2E%2E" is a dot segment, too.
    address = f"{scheme}://{host}" + (_without_dot_segments(_TO_ENCODE.sub(_normalise_escape, path)) or "/")
    if host in DEFAULT_PORTS and _EXTRA_SCHEMES.match(address):  # without the port it would be a different address
        raise InvalidAddress(Sentence('"%(host)s" is the name of a scheme, not of a host.', host=host))
    if query:
        address += "?" + _TO_ENCODE.sub(_normalise_escape, query)
    if len(address) > MAX_URL:
        message = Sentence("It is longer than %(most)s characters in its percent-encoded form.", most=MAX_URL)
        raise InvalidAddress(message)
    return address


def address_prefixes(host: str) -> list[str]:
    """Return what the normalised addresses of a host start with: on any port, unless `host` names one.

    Raises InvalidAddress if `host` is not a valid host.
    """
    if _NOT_IN_HOST.search(host):
        raise InvalidAddress(Sentence("Give only a host, such as example.org or example.org:8080."))
    sites = [normalise_address(f"{scheme}://{host}") for scheme in DEFAULT_PORTS]
    return sites if _HAS_PORT.search(host) else [*sites, *(f"{site.removesuffix('/')}:" for site in sites)]


def host_of(url: str) -> str:
    """Return host and port of a normalised address. urlsplit() takes ten times as long."""
    return url.partition("://")[2].partition("/")[0]


def hostname_of(url: str) -> str:
    """Return the host of a normalised address without port and brackets, as resolvers take it."""
    host = host_of(url)
    return _HAS_PORT.sub("", host).strip("[]") if ":" in host else host


def _describe(character: str) -> Sentence:
    if character == "\0":
        return Sentence("It contains a NUL character.")
    if character == "\\":
        return Sentence('It contains a backslash; use "/" instead.')
    if character.isspace():
        return Sentence("It contains a space or other whitespace.")
    if character >= "\ud800":
        return Sentence("It contains bytes that are not UTF-8, or half of a surrogate pair.")
    return Sentence("It contains a control character (%(code)s).", code=f"U+{ord(character):04X}")


def _with_one_web_scheme(text: str) -> str:
    text, extra = _EXTRA_SCHEMES.subn("", text)
    if extra:
        text = _SCHEME_WITHOUT_COLON.sub(r"\1://", text)
    return _READER_SCHEME.sub(lambda match: f"{_READER_SCHEMES[match[1].lower()]}://", text)


def _why_not_http(text: str) -> Sentence:
    if not text:
        return Sentence("It is empty.")
    scheme = _SCHEME.match(text)
    if not scheme:
        return Sentence("It has no scheme; start it with https://.")
    if scheme[0][:-1].lower() in _SCHEMES:
        return Sentence("It must begin with http:// or https://, with two slashes.")
    return Sentence('It begins with "%(scheme)s", and only http:// and https:// can be checked.', scheme=scheme[0][:30])


def _normalise_authority(authority: str, scheme: str) -> str:
    if "@" in authority:
        raise InvalidAddress(Sentence("It contains a user name or password before the host; leave them out."))
    parts = _AUTHORITY.fullmatch(authority)
    if not parts:
        raise InvalidAddress(Sentence('"%(host)s" is not a valid host and port.', host=authority[:80]))
    host = _normalise_host(parts[1])
    port = int(parts[2] or DEFAULT_PORTS[scheme])
    if not 1 <= port <= 65535:
        raise InvalidAddress(Sentence("Its port is not between 1 and 65535."))
    return host if port == DEFAULT_PORTS[scheme] else f"{host}:{port}"


def _normalise_host(host: str) -> str:
    if not host:
        raise InvalidAddress(Sentence("It has no host name."))
    if host.startswith("["):
        return f"[{_parse_ip(ipaddress.IPv6Address, host[1:-1].replace('%', '/'), host)}]"  # "/": no scope is valid
    name = (host.lower() if host.isascii() else _to_ascii(host)).removesuffix(".")
    if len(name) > 253 or not _HOST_NAME.fullmatch(name):
        raise InvalidAddress(Sentence('"%(host)s" is not a valid host name.', host=host[:80]))
    # Resolvers read 127.1, 0x7f.1 and 2130706433 as IPv4 addresses. Allow only one spelling.
    return _parse_ip(ipaddress.IPv4Address, name, host) if _ENDS_IN_NUMBER.fullmatch(name) else name


def _parse_ip(kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address], text: str, host: str) -> str:
    try:
        return kind(text).compressed
    except ValueError:
        message = Sentence(
            '"%(host)s" is not a valid %(kind)s address.', host=host[:80], kind=kind.__name__.removesuffix("Address")
        )
        raise InvalidAddress(message) from None


# idna takes 20 µs a host, six times as long as the rest, and profiles of one site share their host.
@lru_cache(maxsize=1024)
def _to_ascii(host: str) -> str:
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except UnicodeError as error:
        try:
            return ".".join(map(_encode_symbols, idna.uts46_remap(host, std3_rules=False).split(".")))
        except UnicodeError:
            message = Sentence('"%(host)s" is not a valid host name: %(why)s.', host=host[:80], why=str(error))
            raise InvalidAddress(message) from error


def _encode_symbols(label: str) -> str:
    """The label in ASCII. IDNA 2008 excludes emoji and other symbols; registries sell them, and browsers open them."""
    letters = "".join(letter for letter in label if unicodedata.category(letter) not in {"So", "Sk", "Me"})
    encoded = idna.encode(letters).decode("ascii") if letters else ""
    return encoded if letters == label else f"xn--{label.encode('punycode').decode('ascii')}"


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
    result: list[str] = []
    for segment in segments:
        if segment == "..":
            del result[-1:]
        elif segment != ".":
            result.append(segment)
    if segments[-1] in {".", ".."}:
        result.append("")
    return "/" + "/".join(result)

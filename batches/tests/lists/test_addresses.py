"""The normal form of an address."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches.limits import MAX_URL
from batches.lists import addresses as reading
from batches.lists.addresses import InvalidAddress, host_of, hostname_of, normalise_address


def brief(value):
    """A test's id from its argument, which may be megabytes long."""
    return repr(value)[:40]


#: Spellings of one address, with the normal form.
SPELLINGS = {
    "https://example.com/feed": ["https://example.com/feed", "  https://example.com/feed \r\n", "HTTPS://Example.COM/feed",
        "\ufeffhttps://example.com/feed\u200b", "https://example.com./feed", "https://example.com:443/feed",
        "https://example.com:/feed", "https://example.com:00443/feed", "https://example.com/feed#latest"],
    "https://example.com/Feed": ["https://example.com/Feed"],
    "https://example.com/": ["https://example.com", "https://example.com/?", "https://example.com#a?b/c",
        "https://ｅｘａｍｐｌｅ．com/"],
    "https://example.com/?a=b": ["https://example.com?a=b"],
    "https://example.com/?b=2&a=1&b=0": ["https://example.com/?b=2&a=1&b=0"],
    "https://my_blog.example.com/": ["https://my_blog.example.com/"],
    "http://localhost:8000/": ["http://localhost:8000/"],
    "http://example.com/": ["http://example.com:80/"],
    "http://example.com:443/": ["http://example.com:443/"],
    "https://example.com:65535/": ["https://example.com:65535/"],
    "https://xn--bcher-kva.example/": ["https://bücher.example/", "https://BÜCHER.example/", "https://bücher.example。/",
        "https://bu\u0308cher.example/", "https://xn--bcher-kva.example/"],
    "https://xn--fa-hia.example/": ["https://faß.example/"],
    "https://xn--wgv71a.example/": ["https://日本。example/"],
    "http://127.0.0.1/": ["http://１２７.0.0.1/"],
    "http://[2001:db8::1]/": ["http://[2001:DB8:0:0::1]/"],
    "http://[::1]/": ["http://[::1]:80/"],
    "http://[::1]:8000/": ["http://[::1]:8000/"],
    "http://example.com/rss": ["feed://example.com/rss", "FEED:HTTP://example.com/rss", "itpc://example.com/rss",
        "feed:feed://example.com/rss", "https://http://example.com/rss", "pcast:http://example.com/rss"],
    "https://example.com/rss": ["feed:https://example.com/rss", "feed://https://example.com/rss",
        "feed://https//example.com/rss", "http://https//example.com/rss", "http://https://example.com/rss",
        "HTTP://HTTPS://https://example.com/rss", "feeds://example.com/rss", "feeds:https://example.com/rss",
        "http:https://example.com/rss"],
    # Hosts that are called like a scheme.
    "http://http/rss": ["http://http/rss"],
    "https://https:8080/": ["https://https:8080/"],
    "http://feed/": ["feed://feed/"],
    "https://https.example//rss": ["https://https.example//rss"],
    "https://example.com/feed://b.example/": ["https://example.com/feed://b.example/"],
    # Emoji: not in IDNA 2008, but registered, and opened by browsers.
    "https://xn--i-7iq.example/": ["https://i❤.example/", "https://I❤️.example/"],
    "https://xn--yp8h.example/": ["https://👍.example/"],
    "https://a.xn--on8h5e.example/": ["https://a.👍🏽.example/"],
    "https://xn--b-eha0160a.example/": ["https://bü❤.example/"],
}  # fmt: skip
PATHS = {
    "/a/./b/../c": "/a/c", "/a/b/..": "/a/", "/..": "/", "/../../a": "/a", "/a/.": "/a/", "/a//../b": "/a/b",
    "//a//b": "//a//b", "/...": "/...", "/.well-known/x": "/.well-known/x", "/a/%2E%2e/b": "/b",
    "/%7Ecks/%61": "/~cks/a", "/%c3%bc": "/%C3%BC", "/ü": "/%C3%BC", "/%E9": "/%E9", "/100%": "/100%25",
    "/%zz%4": "/%25zz%254", "/%2%35": "/%2525", "/%2Fa": "/%2Fa", '/{a}|"b"': "/%7Ba%7D%7C%22b%22",
    "/@a:b;c=d,e!$&'()*+": "/@a:b;c=d,e!$&'()*+", "/?q=ü&ids[]=%5b1%5D": "/?q=%C3%BC&ids%5B%5D=%5B1%5D",
    "/?a/../b?c": "/?a/../b?c",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "normal"),
    [(text, normal) for normal, texts in SPELLINGS.items() for text in texts]
    + [(f"https://example.com{path}", f"https://example.com{normal}") for path, normal in PATHS.items()],
    ids=brief,
)
def test_spellings_of_one_address_give_one_normal_form(text, normal):
    assert normalise_address(text) == normal


@pytest.mark.parametrize(
    ("url", "host", "hostname"),
    [
        ("https://example.com/a:b", "example.com", "example.com"),
        ("http://example.com:8080/", "example.com:8080", "example.com"),
        ("http://[::1]:8000/", "[::1]:8000", "::1"),
        ("http://[2001:db8::80]/", "[2001:db8::80]", "2001:db8::80"),
    ],
)
def test_the_host_of_an_address_has_its_port_and_its_hostname_has_not(url, host, hostname):
    assert (host_of(url), hostname_of(url)) == (host, hostname)


#: Texts that are not addresses, by a part of the reason.
INVALID = {
    "It is empty.": ["", " \t "],
    "start it with https://": ["www.example.com/feed", "example.com:8080/feed", "//example.com/feed", "httpſ://example.com/"],
    "with two slashes": ["https:/example.com/", "http:example.com", "feed:example.com"],
    '"ftp:"': ["ftp://example.com/"],
    '"mailto:"': ["mailto:somebody@example.com"],
    '"javascript:"': ["javascript:alert(document.cookie)"],
    '"file:"': ["file:///etc/passwd"],
    "no host": ["https://", "https:///feed", "https://:443/", "https://?a"],
    "user name or password": ["https://user:secret@example.com/", "https://user@example.com/", "https://@example.com/"],
    "Its port is not": ["https://example.com:0/", "https://example.com:65536/", "https://example.com:" + "9" * 1900],
    "host and port": ["https://example.com:80x/", "https://example.com:٨٠/", "https://a:b:c/", "https://[::1/",
        "https://[::1]x/"],
    "IPv6": ["https://[::g]/", "https://[fe80::1%eth0]/", "https://[v1.fe80]/", "https://[]/"],
    "IPv4": ["https://127.1/", "https://0x7f.0.0.1/", "https://0x7f000001/", "https://2130706433/", "https://0177.0.0.1/",
        "https://256.0.0.1/", "https://１２７.1/"],
    "not a valid host name": ["https://exa%6Dple.com/", "https://a..example/", "https://.example/", "https://./",
        "https://example.com../", "https://exam!ple.com/", "https://" + "a" * 64 + ".example/",
        "https://" + "a." * 130 + "example/", "https://℀.example/", "https://❤_a.example/", "https://❤\u200d.example/", "https://❤..example/",
        "https://" + "❤a" * 40 + ".example/", "https://\ufffd.example/", "https://bü_cher.example/",
        "https://example.com／feed/"],
    "the name of a scheme": ["http://https:80//example.com/", "https://http.//a", "http://https:80/.//a"],
    "whitespace": ["https://exam ple.com/", "https://example.com/a\tb", "https://example.com/a\u3000b",
        "https://example.com/\nhttps://example.com/"],
    "backslash": ["https://example.com\\@evil.example/", "https://example.com/a\\b"],
    "NUL": ["https://example.com/\x00"],
    "control character (U+001B)": ["https://example.com/\x1b[31m"],
    "control character (U+007F)": ["https://example.com/\x7f"],
    "surrogate": ["https://example.com/\ud800"],
    "not UTF-8": ["https://example.com/\udcff"],
    "longer than 2,000 characters": ["https://example.com/" + "a" * 1981, "a" * 1_000_000],
    "longer than 2,000 characters in its percent-encoded form": ["https://example.com/" + "ü" * 400],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"), [(text, reason) for reason, texts in INVALID.items() for text in texts], ids=brief
)
def test_an_invalid_address_is_refused_with_its_reason(text, reason):
    with pytest.raises(InvalidAddress) as refusal:
        normalise_address(text)
    sentence = str(refusal.value)
    assert reason in sentence
    assert sentence.startswith(("It", '"'))
    assert sentence.endswith(".")
    assert len(sentence) < 300


def test_an_address_of_2000_characters_is_taken():
    address = "https://example.com/" + "a" * (MAX_URL - 20)
    assert normalise_address(address) == address
    assert len(normalise_address("https://example.com/" + "ü" * 330)) == MAX_URL


NAMES = ["Example.COM", "bücher.example", "日本。jp", "https", "i❤.la", "a_b", "ß.ẞ"]
NUMBERS = ["127.0.0.1", "[::1]", "[2001:DB8::1.2.3.4]"]
PIECES = ["/", "..", ".", "%", "%2e", "%2F", "%41", "?", "#", "ü", "&a=b", "[", "😀"]
hosts = st.sampled_from([*NAMES, *NUMBERS]) | st.text(min_size=1, max_size=20)
tails = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=12).map("".join)
addresses = st.builds(
    "{}://{}{}/{}".format,
    st.sampled_from(["http", "https", "HTTPS", "feed", "feed:https", "feeds", "http://https", "http://https://feed"]),
    hosts,
    st.sampled_from(["", ":", ":80", ":443", ":8080", ":0443"]),
    tails,
)


@settings(max_examples=300)
@given(addresses | st.text(st.characters(exclude_categories=())))
def test_a_normal_form_is_ascii_has_a_host_and_gives_itself(text):
    try:
        normal = normalise_address(text)
    except InvalidAddress:
        return
    parts = urlsplit(normal)
    assert normal.isascii()
    assert len(normal) <= MAX_URL
    assert parts.scheme in {"http", "https"}
    assert parts.hostname
    assert parts.username is parts.password is None
    assert "#" not in normal
    assert parts.path.startswith("/")
    assert not {".", ".."} & set(parts.path.split("/"))
    assert normalise_address(normal) == normal


LABELS = ["a", "_a-b", "1", "0x1f", "https", "xn--bcher-kva", "a" * 63, "a" * 64]
nearly_normal = st.builds(
    "http://{}/{}".format,
    st.lists(st.sampled_from(LABELS), min_size=1, max_size=4).map(".".join),
    st.lists(st.sampled_from(["/", ".", "..", "?", "a", "&a=b"]), max_size=5).map("".join),
)


@settings(max_examples=300)
@given(nearly_normal | st.from_regex(reading._NORMAL, fullmatch=True))
def test_an_address_that_is_recognised_as_normal_is_its_own_normal_form(text):
    if reading._NORMAL.fullmatch(text):
        assert reading._normalise(text) == text

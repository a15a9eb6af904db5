"""The normal form of an address."""

from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from batches.limits import MAX_URL
from batches.lists.addresses import InvalidAddress, normalise_address

from .lists import brief


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://example.com/feed", "https://example.com/feed"),
        ("  https://example.com/feed \r\n", "https://example.com/feed"),
        ("\ufeffhttps://example.com/feed\u200b", "https://example.com/feed"),
        ("HTTPS://Example.COM/Feed", "https://example.com/Feed"),
        ("https://example.com", "https://example.com/"),
        ("https://example.com?a=b", "https://example.com/?a=b"),
        ("https://example.com/?", "https://example.com/"),
        ("https://example.com/?b=2&a=1&b=0", "https://example.com/?b=2&a=1&b=0"),
        ("https://example.com/#latest", "https://example.com/"),
        ("https://example.com#a?b/c", "https://example.com/"),
        ("https://example.com./feed", "https://example.com/feed"),
        ("https://my_blog.example.com/", "https://my_blog.example.com/"),
        ("http://localhost:8000/", "http://localhost:8000/"),
    ],
    ids=brief,
)
def test_spellings_of_one_address_give_one_normal_form(text, normal):
    assert normalise_address(text) == normal


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("http://example.com:80/", "http://example.com/"),
        ("https://example.com:443/", "https://example.com/"),
        ("https://example.com:/", "https://example.com/"),
        ("https://example.com:00443/", "https://example.com/"),
        ("http://example.com:443/", "http://example.com:443/"),
        ("https://example.com:65535/", "https://example.com:65535/"),
    ],
    ids=brief,
)
def test_a_default_port_is_left_out(text, normal):
    assert normalise_address(text) == normal


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://BÜCHER.example/", "https://xn--bcher-kva.example/"),
        ("https://bu\u0308cher.example/", "https://xn--bcher-kva.example/"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
        ("https://faß.example/", "https://xn--fa-hia.example/"),
        ("https://日本。example/", "https://xn--wgv71a.example/"),
        ("https://ｅｘａｍｐｌｅ．com/", "https://example.com/"),
        ("https://bücher.example。/", "https://xn--bcher-kva.example/"),
        ("http://１２７.0.0.1/", "http://127.0.0.1/"),
        ("http://[2001:DB8:0:0::1]/", "http://[2001:db8::1]/"),
        ("http://[::1]:80/", "http://[::1]/"),
        ("http://[::1]:8000/", "http://[::1]:8000/"),
    ],
    ids=brief,
)
def test_a_host_gets_its_ascii_form(text, normal):
    assert normalise_address(text) == normal


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/a/./b/../c", "/a/c"),
        ("/a/b/..", "/a/"),
        ("/..", "/"),
        ("/../../a", "/a"),
        ("/a/.", "/a/"),
        ("/a//../b", "/a/b"),
        ("//a//b", "//a//b"),
        ("/...", "/..."),
        ("/.well-known/x", "/.well-known/x"),
        ("/a/%2E%2e/b", "/b"),
        ("/%7Ecks/%61", "/~cks/a"),
        ("/%c3%bc", "/%C3%BC"),
        ("/ü", "/%C3%BC"),
        ("/%E9", "/%E9"),
        ("/100%", "/100%25"),
        ("/%zz%4", "/%25zz%254"),
        ("/%2%35", "/%2525"),
        ("/%2Fa", "/%2Fa"),
        ('/{a}|"b"', "/%7Ba%7D%7C%22b%22"),
        ("/@a:b;c=d,e!$&'()*+", "/@a:b;c=d,e!$&'()*+"),
        ("/?q=ü&ids[]=%5b1%5D", "/?q=%C3%BC&ids%5B%5D=%5B1%5D"),
        ("/?a/../b?c", "/?a/../b?c"),
    ],
    ids=brief,
)
def test_a_path_gets_its_percent_encoded_form(path, normal):
    assert normalise_address("https://example.com" + path) == "https://example.com" + normal


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("feed://example.com/rss", "http://example.com/rss"),
        ("feed:https://example.com/rss", "https://example.com/rss"),
        ("FEED:HTTP://example.com/rss", "http://example.com/rss"),
    ],
    ids=brief,
)
def test_the_feed_scheme_of_feed_readers_is_http(text, normal):
    assert normalise_address(text) == normal


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "It is empty."),
        (" \t ", "It is empty."),
        ("www.example.com/feed", "start it with https://"),
        ("example.com:8080/feed", "start it with https://"),
        ("//example.com/feed", "start it with https://"),
        ("httpſ://example.com/", "start it with https://"),
        ("https:/example.com/", "with two slashes"),
        ("http:example.com", "with two slashes"),
        ("feed:example.com", "with two slashes"),
        ("ftp://example.com/", '"ftp:"'),
        ("mailto:somebody@example.com", '"mailto:"'),
        ("javascript:alert(document.cookie)", '"javascript:"'),
        ("file:///etc/passwd", '"file:"'),
        ("https://", "no host"),
        ("https:///feed", "no host"),
        ("https://:443/", "no host"),
        ("https://?a", "no host"),
        ("https://user:secret@example.com/", "user name or password"),
        ("https://user@example.com/", "user name or password"),
        ("https://@example.com/", "user name or password"),
        ("https://example.com:0/", "port"),
        ("https://example.com:65536/", "port"),
        ("https://example.com:" + "9" * 1900, "port"),
        ("https://example.com:80x/", "host with an optional port"),
        ("https://example.com:٨٠/", "host with an optional port"),
        ("https://a:b:c/", "host with an optional port"),
        ("https://[::1/", "host with an optional port"),
        ("https://[::1]x/", "host with an optional port"),
        ("https://[::g]/", "IPv6"),
        ("https://[fe80::1%eth0]/", "IPv6"),
        ("https://[v1.fe80]/", "IPv6"),
        ("https://[]/", "IPv6"),
        ("https://127.1/", "IPv4"),
        ("https://0x7f.0.0.1/", "IPv4"),
        ("https://0x7f000001/", "IPv4"),
        ("https://2130706433/", "IPv4"),
        ("https://0177.0.0.1/", "IPv4"),
        ("https://256.0.0.1/", "IPv4"),
        ("https://１２７.1/", "IPv4"),
        ("https://exa%6Dple.com/", "not a valid host name"),
        ("https://a..example/", "not a valid host name"),
        ("https://.example/", "not a valid host name"),
        ("https://./", "not a valid host name"),
        ("https://example.com../", "not a valid host name"),
        ("https://exam!ple.com/", "not a valid host name"),
        ("https://" + "a" * 64 + ".example/", "not a valid host name"),
        ("https://" + "a." * 130 + "example/", "not a valid host name"),
        ("https://i❤.example/", "not a valid host name"),
        ("https://℀.example/", "not a valid host name"),
        ("https://bü_cher.example/", "not a valid host name"),
        ("https://example.com／feed/", "not a valid host name"),
        ("https://exam ple.com/", "white space"),
        ("https://example.com/a\tb", "white space"),
        ("https://example.com/a\u3000b", "white space"),
        ("https://example.com/\nhttps://example.com/", "white space"),
        ("https://example.com\\@evil.example/", "backslash"),
        ("https://example.com/a\\b", "backslash"),
        ("https://example.com/\x00", "NUL"),
        ("https://example.com/\x1b[31m", "control character (U+001B)"),
        ("https://example.com/\x7f", "control character (U+007F)"),
        ("https://example.com/\ud800", "surrogate"),
        ("https://example.com/\udcff", "not UTF-8"),
        ("https://example.com/" + "a" * 1981, "longer than 2,000 characters"),
        ("https://example.com/" + "ü" * 400, "longer than 2,000 characters in its percent-encoded form"),
        ("a" * 1_000_000, "longer than 2,000 characters"),
    ],
    ids=brief,
)
def test_what_is_no_address_is_refused_with_its_reason(text, reason):
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


hosts = st.one_of(
    st.sampled_from(
        ["Example.COM", "bücher.example", "日本。jp", "127.0.0.1", "[::1]", "[2001:DB8::1.2.3.4]", "a_b", "ß.ẞ"]
    ),
    st.text(min_size=1, max_size=20),
)
tails = st.lists(
    st.one_of(
        st.sampled_from(["/", "..", ".", "%", "%2e", "%2F", "%41", "?", "#", "ü", "&a=b", "[", "😀"]),
        st.text(max_size=8),
    ),
    max_size=12,
).map("".join)
addresses = st.builds(
    "{}://{}{}/{}".format,
    st.sampled_from(["http", "https", "HTTPS", "feed", "feed:https"]),
    hosts,
    st.sampled_from(["", ":", ":80", ":443", ":8080", ":0443"]),
    tails,
)


@settings(max_examples=200, deadline=None)
@given(addresses)
def test_a_normal_form_is_ascii_has_a_host_and_gives_itself(text):
    try:
        normal = normalise_address(text)
    except InvalidAddress:
        assume(False)
    parts = urlsplit(normal)
    assert normal.isascii()
    assert len(normal) <= MAX_URL
    assert parts.scheme in {"http", "https"}
    assert parts.hostname
    assert parts.username is None
    assert parts.password is None
    assert "#" not in normal
    assert parts.path.startswith("/")
    assert not {".", ".."} & set(parts.path.split("/"))
    assert normalise_address(normal) == normal


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_normalised_or_refused(text):
    for candidate in (text, f"https://{text}", f"https://example.com/{text}"):
        with suppress(InvalidAddress):
            assert normalise_address(candidate).isascii()

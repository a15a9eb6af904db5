"""No address leads to what is not public: not directly, not through a redirect, not through a name or a proxy."""

import asyncio
import socket
from ipaddress import ip_address

import pytest

from batches.checking.checkers import fetch as fetch_module
from batches.checking.checkers.fetch import Fetcher, FetchError, Response
from batches.checking.checkers.guard import is_public, read_networks
from batches.tests.support.feedserver import FeedServer
from batches.tests.support.inside import words

from .conftest import quick_config

NOT_PUBLIC = words("""
    0.0.0.0 0.1.2.3 0.255.255.255
    10.0.0.0 10.0.0.1 10.255.255.255
    100.64.0.0 100.100.100.200 100.127.255.255
    127.0.0.1 127.0.0.53 127.255.255.254
    169.254.0.1 169.254.169.254 169.254.170.2
    172.16.0.1 172.17.0.1 172.31.255.255
    192.0.0.1 192.0.0.8 192.0.0.170 192.0.0.192
    192.0.2.1 192.88.99.1 192.168.0.1 192.168.255.255
    198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9
    224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
    :: ::1 ::7f00:1 ::127.0.0.1 ::a00:1 ::ffff
    ::ffff:10.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:0:0 ::ffff:7f00:1
    ::ffff:0:7f00:1 64:ff9b::a00:1 64:ff9b::7f00:1 64:ff9b:1::1 64:ff9b:1:ffff::10.0.0.1
    100::1 200::1 1000::1
    2001::1 2001:0:7f00:1::1 2001:2::1 2001:10::1 2001:20::1 2001:1ff:ffff::1
    2001:db8::1 2001:db8:ffff::1
    2002:7f00:1::1 2002:a00:1::1 2002:c0a8:101::1
    3fff::1 3fff:fff:ffff::1 4000::1 5f00::1
    fc00::1 fd00:ec2::254 fdff::1
    fe80::1 fe80::1%lo febf::1 fec0::1 feff::1 ff02::1 ff0e::1
""")

PUBLIC = words("""
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.216.34 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1
    169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255
    198.20.0.0 223.255.255.255
    ::ffff:8.8.8.8 2000::1 2001:200::1 2001:4860:4860::8888 2003::1 2400:cb00::1 2606:4700:4700::1111
    2620:fe::fe 2a00:1450:4001::1 3ffe::1 3fff:1000::1
""")

# What is left of these in a URL is no address that the operating system would read.
LITERALS = [f"[{address}]" if ":" in address else address for address in NOT_PUBLIC if "%" not in address]

# Other spellings of 127.0.0.1, and names that the operating system knows.
SPELLINGS = words("""
    2130706433 017700000001 0x7f000001 0x7f.0.0.1 0x7f.1 0177.0.0.1 127.1 127.0.1 127.0.0.01 0
    localhost LOCALHOST localhost. [::ffff:7f00:1] [0:0:0:0:0:0:0:1] 127.0.0.1. １２７.0.0.1 ⓛocalhost
""")


def test_the_tables_are_large_enough():
    assert len(NOT_PUBLIC) >= 60
    assert len(set(NOT_PUBLIC)) == len(NOT_PUBLIC)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_special_address_is_not_public(address):
    assert not is_public(address)
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_an_ordinary_address_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "0x7f.1", "2130706433", "1.2.3.4.5", "1.2.3.4/32", "::g", "\0"]
)
def test_what_is_no_address_is_not_public(text):
    assert not is_public(text)


def test_networks_are_opened_on_purpose_and_only_they():
    allowed = read_networks(["10.1.0.0/16", "fd00::/8", "192.168.7.9"])
    assert all(is_public(address, allowed) for address in ["10.1.2.3", "::ffff:10.1.2.3", "fd12::1", "192.168.7.9"])
    assert not any(is_public(address, allowed) for address in ["10.2.0.1", "::ffff:10.2.0.1", "fc00::1", "192.168.7.8"])


def test_a_network_that_cannot_be_read_is_named():
    with pytest.raises(ValueError, match="ten"):
        read_networks(["ten.0.0.0/8"])


def refusals(urls: list[str], **config: object) -> dict[str, str]:
    """What each address fails with. An answer fails the test."""

    async def refusal(fetcher: Fetcher, url: str) -> str:
        try:
            answer = await fetcher.fetch(url)
        except FetchError as error:
            return str(error)
        pytest.fail(f"{url} was fetched: {answer.status}")

    async def run() -> list[str]:
        async with Fetcher(quick_config(**config)) as fetcher:
            return await asyncio.gather(*(refusal(fetcher, url) for url in urls))

    return dict(zip(urls, asyncio.run(run()), strict=True))


def test_no_special_address_is_connected_to_directly():
    found = refusals([f"http://{host}:9/" for host in LITERALS], allowed_networks=())
    assert [sentence for sentence in found.values() if not sentence.endswith("is not public")] == []


def test_no_special_address_is_connected_to_through_a_redirect(server):
    opened = read_networks(["127.0.0.1"])
    hosts = [host for host in LITERALS if not is_public(host.strip("[]"), opened)]
    assert len(hosts) >= 60
    for number, host in enumerate(hosts):
        server.redirect(f"/{number}", f"http://{host}:{server.port}/secret")
    urls = [server.url(f"/{number}") for number in range(len(hosts))]
    found = refusals(urls, allowed_networks=("127.0.0.1",), per_host=100)
    assert [sentence for sentence in found.values() if not sentence.endswith("is not public")] == []
    assert server.hits("/secret") == 0


@pytest.mark.parametrize("host", SPELLINGS)
def test_another_spelling_of_a_special_address_is_refused(host, server):
    (sentence,) = refusals([f"http://{host}:{server.port}/secret"], allowed_networks=()).values()
    assert sentence.endswith("is not public") or sentence.startswith(("the address is not valid", "no such host"))
    assert server.requests == []


def test_the_refusal_names_the_address():
    assert refusals(["http://10.0.0.1/"]) == {"http://10.0.0.1/": "the address 10.0.0.1 is not public"}


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def getaddrinfo(host: str, port: int, *_: object) -> list[tuple[object, ...]]:
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [(family, 1, 6, "", (address, port)) for family, address in zip(families, addresses, strict=True)]

    monkeypatch.setattr(fetch_module.socket, "getaddrinfo", getaddrinfo)


def test_a_name_that_leads_to_special_addresses_is_refused(monkeypatch, server):
    resolve_to(monkeypatch, "::1", "127.0.0.1", "10.0.0.1")
    (sentence,) = refusals([f"http://intranet.example:{server.port}/"], allowed_networks=()).values()
    assert sentence.endswith("is not public")
    assert server.requests == []


def test_a_names_other_addresses_are_tried(monkeypatch, server, fetch):
    server.answer("/", body=b"hello")
    resolve_to(monkeypatch, "10.0.0.1", "127.0.0.1")
    answer: Response = fetch(f"http://both.example:{server.port}/")
    assert answer.body == b"hello"


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_not_asked(name, monkeypatch, server):
    monkeypatch.setenv(name, server.url())
    found = refusals(["http://10.0.0.1/", "https://10.0.0.1/"])
    assert set(found.values()) == {"the address 10.0.0.1 is not public"}
    assert server.requests == []


BAD_ADDRESSES = {
    "ftp://127.0.0.1/": "not http or https",
    "file:///etc/passwd": "not http or https",
    "gopher://127.0.0.1/": "not http or https",
    "javascript:alert(1)": "not http or https",
    "data:text/html,hello": "not http or https",
    "ws://127.0.0.1/": "not http or https",
    "http://user@127.0.0.1:{port}/": "user name or password",
    "http://user:secret@127.0.0.1:{port}/": "user name or password",
    "http://:@127.0.0.1:{port}/": "user name or password",
    "http://@127.0.0.1:{port}/": "user name or password",
    "http://8.8.8.8\\@127.0.0.1:{port}/": "is not valid",
    "http://[": "is not valid",
    "http://[::1": "is not valid",
    "http://127.0.0.1:99999/": "is not valid",
    "http://127.0.0.1:port/": "is not valid",
}


# In a redirect, these are relative to the address before.
HOSTLESS = {"http://": "no host", "http:///path": "no host", "/path": "not http or https", "": "not http or https"}


@pytest.mark.parametrize(("address", "reason"), [*BAD_ADDRESSES.items(), *HOSTLESS.items()])
def test_an_address_of_another_kind_is_refused(address, reason, server):
    (sentence,) = refusals([address.format(port=server.port)]).values()
    assert sentence.startswith("the address ")
    assert reason in sentence
    assert server.requests == []


@pytest.mark.parametrize(("address", "reason"), BAD_ADDRESSES.items())
def test_a_redirect_to_an_address_of_another_kind_is_refused(address, reason, server):
    server.redirect("/", address.format(port=server.port))
    (sentence,) = refusals([server.url("/")]).values()
    assert sentence.startswith("the redirect target ")
    assert reason in sentence
    assert server.hits("/") == 1


def test_a_server_of_another_host_can_be_allowed():
    with FeedServer(hosts=["127.0.0.2"]) as server:
        (refused,) = refusals([server.url("/")], allowed_networks=("127.0.0.1",)).values()
        (answered,) = refusals([server.url("/")], allowed_networks=("127.0.0.2",)).values()
    assert refused == "the address 127.0.0.2 is not public"
    assert answered == "answered 404 Not Found"

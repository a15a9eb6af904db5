"""No address leads to a server inside, in any spelling and by any way. The servers inside are real."""

import asyncio
import html
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from ipaddress import ip_address

import pytest
from django.conf import settings

from batches.checking.checkers import load_checker
from batches.checking.checkers.base import ProfileToCheck
from batches.checking.checkers.guard import is_public, read_networks
from batches.checking.checkers.page import normalise_or_empty
from batches.tests.support import network
from batches.tests.support.feedserver import WAIT_SECONDS
from batches.tests.support.inside import (
    DEAD,
    HOPELESS,
    HOSTS_IPV4,
    HOSTS_IPV6,
    IPV4,
    IPV6,
    LEADING,
    OPEN,
    PUBLIC,
    PUBLIC_IPV6,
    Canary,
    World,
    addresses,
    in_a_header,
    words,
)

from .conftest import link, page, quick_config, run_with

REACHED = {host: f"answered {status}" for host, status in Canary.STATUSES.items()}
NOT_REACHED = ("is not public", "refused the connection")
STATUSES = (301, 302, 303, 307, 308)


@pytest.fixture
def world(monkeypatch, canary, server, names):
    return World(monkeypatch, canary, server.port, names)


def check_all(checker, profiles, **config):
    async def check(opened):
        return await asyncio.gather(*map(opened.check, profiles))

    values = {"allowed_networks": (), "per_host": 1000} | config
    return run_with(load_checker(checker, quick_config(**values)), check)


# The ways to an address: a profile's own, a redirect, one remembered from an earlier check, one that a page declares,
# and one to which a page sends its readers.


def direct(server, number, url):
    return ProfileToCheck(number, url)


def redirect(server, number, url):
    server.redirect(f"/{number}", in_a_header(url), STATUSES[number % len(STATUSES)])
    return ProfileToCheck(number, f"http://public.example/{number}")


def second_redirect(server, number, url):
    redirect(server, number, url)
    server.redirect(f"/to/{number}", f"/{number}")
    return ProfileToCheck(number, f"http://public.example/to/{number}")


def remember(server, number, url):
    return ProfileToCheck(number, "http://public.example/", feed_url=url)


def declare(server, number, url):
    server.answer(f"/{number}", page(link(url)), headers={"Content-Type": "text/html"})
    return ProfileToCheck(number, f"http://public.example/{number}")


def refresh(server, number, url):
    content = html.escape(f"0;url={url}")
    server.answer(f"/{number}", page(f'<meta http-equiv="refresh" content="{content}">'))
    return ProfileToCheck(number, f"http://public.example/{number}")


WAYS = [("feed", direct), ("http", direct), ("feed", redirect), ("http", redirect), ("feed", second_redirect)]
WAYS += [("feed", remember), ("feed", declare), ("feed", refresh)]
by_each_way = pytest.mark.parametrize(("checker", "way"), WAYS)
stride = pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.exhaustive)])


@stride
@by_each_way
def test_no_address_leads_to_a_canary(checker, way, stride, world, server):
    assert min(map(len, (*LEADING.values(), HOPELESS))) >= 60
    urls = addresses([*LEADING[IPV4], *LEADING[IPV6], *HOPELESS], world.canary.port)[::stride]
    results = check_all(checker, [way(server, number, url) for number, url in enumerate(urls)])
    world.assert_untouched()
    assert [url for url, result in zip(urls, results, strict=True) if result.ok or not result.error] == []


@stride
@by_each_way
@pytest.mark.parametrize("family", LEADING)
def test_with_the_networks_opened_the_same_addresses_do_lead_there(family, checker, way, stride, world, server):
    urls = addresses(LEADING[family], world.canary.port)[::stride]
    if way in (declare, refresh):
        urls = [url for url in urls if normalise_or_empty(url)]
    profiles = [way(server, number, url) for number, url in enumerate(urls)]
    results = check_all(checker, profiles, allowed_networks=OPEN)
    errors = [result.error.removeprefix("its feed: ") for result in results]
    assert dict(zip(urls, errors, strict=True)) == dict.fromkeys(urls, REACHED[family])
    assert world.canary.reached() == {IPV4: 0, IPV6: 0} | {family: len(urls)}


# Names


MIXED = {
    "first a dead public one": [DEAD, IPV4],
    "first the one inside": [IPV4, DEAD],
    "first the one inside, on IPv6": [IPV6, DEAD],
    "many": [DEAD, IPV6, "10.0.0.1", DEAD, "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", IPV4],
}


@pytest.mark.parametrize("answers", MIXED.values(), ids=MIXED)
def test_a_name_with_addresses_of_both_kinds_leads_to_the_public_ones_only(answers, world):
    profiles = [ProfileToCheck(1, f"http://mixed.example:{world.canary.port}/")]
    world.name("mixed.example", answers)
    (result,) = check_all("http", profiles)
    world.assert_untouched()
    assert (result.ok, set(world.connected)) == (False, {DEAD})
    world.name("mixed.example", [*answers, PUBLIC])
    (result,) = check_all("http", profiles)
    assert result.ok  # by the server at PUBLIC
    world.assert_untouched()
    assert check_all("http", profiles, allowed_networks=OPEN)[0].error in REACHED.values()


@pytest.mark.parametrize("inside", [[IPV4], [IPV6], ["::ffff:127.0.0.1"], [IPV6, IPV4, DEAD]], ids=str)
def test_a_name_that_is_public_at_first_and_inside_from_then_on_leads_nowhere(inside, world, server):
    """DNS rebinding: the address that was checked is the one that is connected to."""
    again = {"Location": f"http://rebound.example:{world.canary.port}/", "Connection": "close"}
    server.answer("/", status=302, headers=again)
    profiles = [ProfileToCheck(1, again["Location"])]
    for allowed, reasons in ((), NOT_REACHED), (OPEN, REACHED.values()):
        # Of both families: c-ares remembers for a while that a name has no address of one of them.
        world.name("rebound.example", [PUBLIC, PUBLIC_IPV6], inside)
        (result,) = check_all("http", profiles, allowed_networks=allowed)
        if not allowed:
            world.assert_untouched()
            assert server.hits("/") == 1
        assert result.error.endswith(tuple(reasons))


@pytest.mark.slow
def test_in_a_network_where_every_address_answers_none_inside_is_connected_to():
    """Here libcurl opens its own connections, and would reach any address."""
    if shutil.which("unshare") is None or shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("A network of one's own needs root, unshare and ip.")
    command = ("unshare", "--net", sys.executable, "-m", network.__name__)
    done = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, timeout=WAIT_SECONDS)
    if done.returncode and "unshare" in done.stderr:
        pytest.skip(f"A network of one's own is not allowed: {done.stderr}")
    guarded, opened = json.loads(done.stdout)
    assert guarded == 0
    assert opened > 200


# Other addresses


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_ignored(name, monkeypatch, server):
    monkeypatch.setenv(name, server.url())
    results = check_all("http", [ProfileToCheck(1, "http://10.0.0.1/"), ProfileToCheck(2, "https://10.0.0.1/")])
    assert {result.error for result in results} == {"the address 10.0.0.1 is not public"}
    assert server.requests == []


ODD_ADDRESSES = {
    "is not http or https": ["ftp://127.0.0.1/", "file:///etc/passwd", "javascript:alert(1)", "ws://127.0.0.1/"],
    "contains a user name or password": ["http://user:secret@127.0.0.1/", "http://:@127.0.0.1/", "http://@127.0.0.1/"],
    "is not valid": ["http://8.8.8.8\\@127.0.0.1/", "http://[", "http://127.0.0.1:99999/", "http://127.0.0.1:port/"],
}
#: A redirect may lead to these: they are relative to its address.
RELATIVE = {"http://": "has no host", "http:///path": "has no host"} | dict.fromkeys(
    ["/path", ""], "is not http or https"
)


def test_an_odd_address_is_refused_with_its_reason_also_in_a_redirect(server):
    reasons = {url: reason for reason, urls in ODD_ADDRESSES.items() for url in urls}
    redirects = {}
    for number, (url, reason) in enumerate(reasons.items()):
        server.redirect(f"/{number}", url)
        redirects[server.url(f"/{number}")] = f"the redirect target {reason}"
    expected = {url: f"the address {reason}" for url, reason in (reasons | RELATIVE).items()} | redirects
    profiles = [ProfileToCheck(1, url) for url in expected]
    results = check_all("http", profiles, allowed_networks=("127.0.0.0/8",))
    assert dict(zip(expected, [result.error for result in results], strict=True)) == expected
    assert len(server.requests) == len(redirects)


# The guard alone

ORDINARY = words("""
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.216.34 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1
    169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255
    198.20.0.0 223.255.255.255
    ::ffff:8.8.8.8 2000::1 2001:200::1 2001:4860:4860::8888 2003::1 2400:cb00::1 2606:4700:4700::1111
    2620:fe::fe 2a00:1450:4001::1 3ffe::1 3fff:1000::1
""")


def addresses_inside():
    """The hosts inside that are literal addresses, without other spellings of one address."""
    for host in [*HOSTS_IPV4, *HOSTS_IPV6]:
        with suppress(ValueError):
            if host.isascii():
                yield str(ip_address(host.strip("[]")))


INSIDE = sorted(set(addresses_inside()))


INVALID = ["", "localhost", "127.1", "0x7f.1", "2130706433", "1.2.3.4.5", "1.2.3.4/32", "::g", "\0"]


@pytest.mark.parametrize("address", [*ORDINARY, *INSIDE, *INVALID])
def test_only_an_ordinary_address_is_public(address):
    assert is_public(address) is (address in ORDINARY)
    assert address in INVALID or is_public(ip_address(address)) is (address in ORDINARY)


def test_networks_are_allowed_explicitly_and_only_they():
    allowed = read_networks(["10.1.0.0/16", "fd00::/8", "192.168.7.9"])
    assert all(is_public(address, allowed) for address in ["10.1.2.3", "::ffff:10.1.2.3", "fd12::1", "192.168.7.9"])
    assert not any(is_public(address, allowed) for address in ["10.2.0.1", "::ffff:10.2.0.1", "fc00::1", "192.168.7.8"])


def test_an_invalid_network_is_named():
    with pytest.raises(ValueError, match="ten"):
        read_networks(["ten.0.0.0/8"])

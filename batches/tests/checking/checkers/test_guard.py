"""The guard connects to public addresses only, and to networks that are allowed explicitly."""

from contextlib import suppress
from ipaddress import ip_address

import pytest

from batches.checking.checkers.guard import is_public, read_networks
from batches.tests.support.inside import HOSTS_IPV4, HOSTS_IPV6, words

PUBLIC = words("""
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


@pytest.mark.parametrize("address", INSIDE)
def test_a_special_address_is_not_public(address):
    assert len(INSIDE) >= 90
    assert not is_public(address)
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_an_ordinary_address_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "0x7f.1", "2130706433", "1.2.3.4.5", "1.2.3.4/32", "::g", "\0"]
)
def test_an_invalid_address_is_not_public(text):
    assert not is_public(text)


def test_networks_are_allowed_explicitly_and_only_they():
    allowed = read_networks(["10.1.0.0/16", "fd00::/8", "192.168.7.9"])
    assert all(is_public(address, allowed) for address in ["10.1.2.3", "::ffff:10.1.2.3", "fd12::1", "192.168.7.9"])
    assert not any(is_public(address, allowed) for address in ["10.2.0.1", "::ffff:10.2.0.1", "fc00::1", "192.168.7.8"])


def test_an_invalid_network_is_named():
    with pytest.raises(ValueError, match="ten"):
        read_networks(["ten.0.0.0/8"])

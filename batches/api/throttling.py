"""Limits the requests of a user, or of an address without a user."""

from ipaddress import IPv4Address, IPv6Network, ip_address

from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle, SimpleRateThrottle, UserRateThrottle

from batches.conf import get_config


class ConfiguredThrottle(SimpleRateThrottle):
    """Its rate is a key of `BATCHES`. The throttles of projects do not use its scope."""

    key: str

    def get_rate(self) -> str | None:
        rate: str = getattr(get_config(), self.key)
        return None if rate == "off" else rate

    def get_ident(self, request: Request) -> str:
        """The client's address: the entry that the first of our own proxies has added. Others can be forged."""
        added = [address.strip() for address in request.headers.get("X-Forwarded-For", "").split(",")]
        addresses = [request.META["REMOTE_ADDR"], *filter(None, reversed(added))]
        return group_address(addresses[min(get_config().api_proxies, len(addresses) - 1)])


def group_address(text: str) -> str:
    """An IPv6 address counts as its /64 network: one visitor has all addresses in it."""
    try:
        address = ip_address(text)
    except ValueError:  # a proxy can write anything
        return text
    if isinstance(address, IPv4Address):
        return text
    return str(address.ipv4_mapped or IPv6Network((int(address), 64), strict=False))


class UserThrottle(ConfiguredThrottle, UserRateThrottle):
    key = "api_rate"
    scope = "batches_user"


class AddressThrottle(ConfiguredThrottle, AnonRateThrottle):
    key = "api_anonymous_rate"
    scope = "batches_address"

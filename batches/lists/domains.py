"""The registrable domain of an address, which one owner has registered, such as `example.co.uk`."""

import re
from functools import cache, lru_cache

from publicsuffixlist import PublicSuffixList

from .addresses import hostname_of

_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}", re.ASCII)


def domain_of(url: str) -> str:
    """The registrable domain of a normalised address.

    An IP address, or a name that is a public suffix itself (`localhost`, `github.io`), is its own domain.
    """
    return domain_of_host(hostname_of(url))


# The lookup takes 4 µs, and the profiles of a list often share their hosts.
@lru_cache(maxsize=16_384)
def domain_of_host(host: str) -> str:
    """The registrable domain of a host name in lower case, or of an IP address without brackets."""
    if ":" in host or _IPV4.fullmatch(host):
        return host
    return _suffixes().privatesuffix(host) or host


@cache
def _suffixes() -> PublicSuffixList:
    """Loaded when it is first used: it takes 0.07 s."""
    return PublicSuffixList()

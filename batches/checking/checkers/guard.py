"""Decides which addresses checks can connect to: public addresses, and those in allowed networks."""

import errno
import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

Network = IPv4Network | IPv6Network

# The only assigned part of IPv6. It excludes ::/96, NAT64 (64:ff9b::/96, 64:ff9b:1::/48), unique local, link-local,
# site-local and multicast addresses.
GLOBAL_V6 = IPv6Network("2000::/3")
# IANA's special-purpose registries, and 192.88.99.0/24, which relays to 6to4. Listed here because `is_global` of Python
# 3.11 accepts multicast and several of these. Of IPv6: IETF protocols (Teredo, benchmarking, ORCHID), documentation,
# 6to4 (which carries any IPv4 address), documentation again.
SPECIAL_NETWORKS = """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
    2001::/23 2001:db8::/32 2002::/16 3fff::/20
"""
SPECIAL = [ip_network(network) for network in SPECIAL_NETWORKS.split()]

NOT_PUBLIC = re.compile(r"the address \S+ is not public")


def is_public(address: str | IPv4Address | IPv6Address, allowed: Iterable[Network] = ()) -> bool:
    """Whether checks can connect to a resolved address. False for an invalid one."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if any(ip in network for network in allowed):
        return True
    is_assigned = ip.version == 4 or ip in GLOBAL_V6
    return is_assigned and not any(ip in network for network in SPECIAL)


def read_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Parse networks such as "127.0.0.0/8". Raises ValueError that names the invalid one."""
    return tuple(ip_network(text, strict=False) for text in texts)


def open_guarded_socket(allowed: Iterable[Network], address: Any) -> int:
    """Open a socket for a connection to an address of libcurl's. Returns its descriptor; raises OSError."""
    ip = address.addr[0]
    if not is_public(ip, allowed):
        raise PermissionError(errno.EACCES, f"the address {ip} is not public")
    return socket.socket(address.family, address.socktype, address.protocol).detach()

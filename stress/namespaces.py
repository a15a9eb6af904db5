"""Four hosts with one bridge between them and this machine: network namespaces, made with `ip`. They need root."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: A rarely used private network.
NETWORK = "10.213.77"
GATEWAY = f"{NETWORK}.1"
#: Addresses of this machine on the bridge, for the servers of profiles.
SERVERS = [f"{NETWORK}.{number}" for number in range(101, 109)]
BRIDGE = "stressbr"
HOSTS = [f"stress{number}" for number in range(1, 5)]

#: The speed of a slow host.
SLOW = "256kbit"

CLONE_NEWNET = 0x40000000


def why_not() -> str:
    """The reason why these hosts cannot be created here, or ""."""
    missing = [name for name in ("ip", "tc") if shutil.which(name) is None]
    if os.geteuid() != 0:
        return "network namespaces need root"
    return f"{' and '.join(missing)} (Debian's package iproute2) is missing" if missing else ""


@contextmanager
def four_hosts() -> Iterator[None]:
    """Create and connect the hosts. Raises CalledProcessError if the kernel refuses them."""
    _remove()  # remove the rest of a killed harness
    try:
        _ip("link", "add", BRIDGE, "type", "bridge")
        for address in (GATEWAY, *SERVERS):
            _ip("address", "add", f"{address}/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        for number, host in enumerate(HOSTS, 2):
            _connect(host, f"{NETWORK}.{number}/24")
        yield
    finally:
        _remove()


def _connect(host: str, address: str) -> None:
    _ip("netns", "add", host)
    _ip("link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", host)
    _ip("link", "set", host, "master", BRIDGE, "up")
    _ip("-n", host, "address", "add", address, "dev", "eth0")
    for device in ("lo", "eth0"):
        _ip("-n", host, "link", "set", device, "up")


def _remove() -> None:
    for host in HOSTS:
        _ip("netns", "delete", host, check=False)
    _ip("link", "delete", BRIDGE, check=False)


def cut(host: str) -> None:
    """Disconnect it silently in both directions."""
    _ip("link", "set", host, "down")


def mend(host: str) -> None:
    _ip("link", "set", host, "up")


def slow_down(host: str) -> None:
    """Limit the speed of its connection. A delay would need `netem`, which small kernels lack."""
    _tc("replace", "dev", host, "root", "tbf", "rate", SLOW, "burst", "10kb", "latency", "1s")


def speed_up(host: str) -> None:
    _tc("delete", "dev", host, "root")


def enter(host: str) -> None:
    """Move this thread, and those that it starts, to this host."""
    libc = ctypes.CDLL(None, use_errno=True)  # `os.setns` is new in Python 3.12
    with open(Path("/run/netns", host)) as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {host}")


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


def _tc(*arguments: str) -> None:
    subprocess.run(["tc", "qdisc", *arguments], check=True, capture_output=True)

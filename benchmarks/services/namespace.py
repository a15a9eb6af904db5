"""A small internet on this machine: network and mount namespaces in which every name is ours.

Nothing else on the machine sees the name server, the certificates or the traffic, and no request can leave.
"""

import site
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.commands import PEER_PYTHON, ROOT
from benchmarks.frame import Unavailable

SETUP = """
set -e
ip link set lo up
sysctl --quiet --write net.ipv4.ip_local_port_range='10000 65000'
mount --bind "$1" /etc/resolv.conf
for bundle in "${@:3}"; do mount --bind "$2" "$bundle"; done
echo ready
exec sleep infinity
"""
SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


@contextmanager
def namespace(folder: Path, authority: Path) -> Iterator[list[str]]:
    """Yields the prefix of a command. With it, 127.0.0.1 resolves names, and this authority is trusted."""
    resolver = folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\n")
    setup = ["bash", "-c", SETUP, "setup", str(resolver), str(authority), *map(str, bundles())]
    process = subprocess.Popen(
        ["unshare", "--mount", "--net", *setup], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert process.stdout
        if (line := process.stdout.readline()) != "ready\n":
            raise Unavailable(f"Namespaces need root and iproute2: {line.strip()}")
        yield ["nsenter", f"--target={process.pid}", "--mount", "--net", "--", "env", f"--chdir={ROOT}"]
    finally:
        process.kill()
        process.wait()


def bundles() -> list[Path]:
    """The files of trusted authorities: the system's and certifi's."""
    peers = sorted(PEER_PYTHON.parent.parent.glob("lib/python*/site-packages/certifi/cacert.pem"))
    ours = [Path(folder) / "certifi" / "cacert.pem" for folder in site.getsitepackages()]
    return [path for path in (SYSTEM_BUNDLE, *ours, *peers) if path.exists()]

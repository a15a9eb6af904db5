"""A separate network in which every address answers: `unshare --net python -m batches.tests.support.network`.

Prints how many connections were accepted for the addresses inside, first guarded and then with all networks allowed.
Nothing of libcurl is replaced: its own connections count. Needs root, and `ip`.
"""

import asyncio
import json
import os
import subprocess
from collections.abc import Sequence

import django

SETUP = ("link set lo up", "route add local 0.0.0.0/0 dev lo", "-6 route add local ::/0 dev lo")


async def count_connections(allowed: Sequence[str]) -> int:
    from batches.checking.checkers.base import ProfileToCheck
    from batches.checking.checkers.http import HttpChecker
    from batches.conf import Config
    from batches.tests.support.inside import HOPELESS, IPV4, IPV6, LEADING, addresses

    accepted = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer.get_extra_info("sockname"))
        writer.write(b"HTTP/1.1 461 Canary\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "0.0.0.0", 0, backlog=1000)
    port = server.sockets[0].getsockname()[1]
    async with server, await asyncio.start_server(answer, "::", port, backlog=1000):
        config = Config(allowed_networks=tuple(allowed), per_host=1000, retries=0, timeout=5.0)
        async with HttpChecker(config) as checker:
            urls = addresses([*LEADING[IPV4], *LEADING[IPV6], *HOPELESS], port)
            await asyncio.gather(*(checker.check(ProfileToCheck(number, url)) for number, url in enumerate(urls)))
    return len(accepted)


def main() -> None:
    for command in SETUP:
        subprocess.run(["ip", *command.split()], check=True)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "batchproject.settings")
    django.setup()
    import pytest

    from batches.tests.support.inside import NAMES_IPV4, NAMES_IPV6, OPEN
    from batches.tests.support.nameserver import NameServer

    with NameServer() as names, pytest.MonkeyPatch.context() as monkeypatch:
        names.use(monkeypatch)
        for name, address in (NAMES_IPV4 | NAMES_IPV6).items():
            names.answer(name, [address])
        print(json.dumps([asyncio.run(count_connections(allowed)) for allowed in ((), OPEN)]))


if __name__ == "__main__":
    main()

"""The loop that an expert writes by hand with aiohttp: fetch, parse, count. It records nothing and limits nothing.

One session for all requests, with a connector that has no limit, as
https://docs.aiohttp.org/en/stable/http_request_lifecycle.html says. aiodns is installed, and aiohttp uses it.
"""

import asyncio

import aiohttp
import fastfeedparser
import fetching

options = fetching.options()
feeds = stories = 0


async def main() -> None:
    waiting = iter(options["urls"])
    timeout = aiohttp.ClientTimeout(total=options["timeout"])
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(work(session, waiting) for _ in range(options["at_once"])))


async def work(session: aiohttp.ClientSession, waiting) -> None:
    global feeds, stories
    for url in waiting:
        try:
            async with session.get(url) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError):
            continue
        stories += len(fastfeedparser.parse(body).entries)
        feeds += 1


asyncio.run(main())
fetching.report(feeds, stories)

"""Feeds over loopback: from a list to stored stories, against handwritten scripts and other readers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from batches.tests.support.ports import free_port
from benchmarks.commands import VAR, Finished, peer, run
from benchmarks.documents import STORIES, loopback_addresses, write_small_feeds
from benchmarks.frame import OURS, Contender, Contest, Figures, Goal, Row, Scale, Unavailable, prose
from benchmarks.lists import write_list
from benchmarks.machine import installed_peers
from benchmarks.ours import new_project, require_complete
from benchmarks.services.databases import Databases, databases
from benchmarks.services.nginx import location, nginx

FIRST, KNOWN, CHANGED = "first pass, feeds/s", "second pass (304), feeds/s", "changed documents, feeds/s"
TWO = "batches, 2 processes"
AIOHTTP, CURL, CURL_ONLY = "bare aiohttp loop", "bare curl loop", "bare curl loop without parsing"
SCRAPY, READER, NEWSBOAT, THREADS = "Scrapy", "reader", "newsboat", "threads by hand"
HOSTS, AT_ONCE, TIMEOUT = 100, 100, 20

DIFFERS = prose("""
    Whole commands, with the start of each program and, for `batches`, with reading the list and storing the
    profiles. `batches` and nobody else limits what it asks of a host, guards against private addresses, and can be
    killed at any time without a loss. The bare loops store nothing and remember nothing, so their second pass is
    their first. Scrapy writes JSON Lines; reader, newsboat and the threads write SQLite. The slow ones get a fifth
    of the feeds.
""")


class Site:
    """nginx with feeds on 100 loopback addresses, and lists of their addresses."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.port = free_port()
        self.current = folder / "current"
        for mark, name in enumerate(("same", "changed")):
            write_small_feeds(folder / name, count, mark)
        hosts = list(loopback_addresses(HOSTS))
        urls = [f"http://{hosts[number % HOSTS]}:{self.port}/{number}.xml" for number in range(count)]
        self.all = write_list(folder / "all.txt", urls)
        self.few = write_list(folder / "few.txt", urls[: count // 5])
        self.count, self.few_count = count, count // 5
        self.listen = "".join(f"listen {host}:{self.port};" for host in hosts)

    def show(self, name: str) -> None:
        new = self.folder / "new"
        new.symlink_to(self.folder / name)
        os.replace(new, self.current)

    @contextmanager
    def serve(self, latency: float = 0.0) -> Iterator[None]:
        self.show("same")
        server = f"server {{ {self.listen} {location(self.current, latency)} }}"
        with nginx(self.folder, server):
            yield


@contextmanager
def open_feeds(scale: Scale) -> Iterator[Contest]:
    with databases("sqlite") as created, TemporaryDirectory(dir=VAR) as folder:
        site = Site(Path(folder), scale.pick(20_000, 500))
        with site.serve():
            yield Contest(make_contenders(site, created), GOALS, DIFFERS)


def make_contenders(site: Site, created: Databases) -> list[Contender]:
    return [
        Contender(OURS, lambda: measure_ours(site, created, 1)),
        Contender(TWO, lambda: measure_ours(site, created, 2)),
        Contender(AIOHTTP, partial(measure_loop, site, "aiohttp", "aiohttp_loop.py", {})),
        Contender(CURL, partial(measure_loop, site, "pycurl", "curl_loop.py", {"parse": True})),
        Contender(CURL_ONLY, partial(measure_loop, site, "pycurl", "curl_loop.py", {"parse": False})),
        Contender(SCRAPY, partial(measure_slow, site, "scrapy", "scrapy_spider.py")),
        Contender(READER, partial(measure_reader, site, "reader", "reader_feeds.py")),
        Contender(NEWSBOAT, partial(measure_reader, site, "", "newsboat_feeds.py")),
        Contender(THREADS, partial(measure_slow, site, "feedparser", "threads_by_hand.py")),
    ]


GOALS = [
    Goal("of the bare aiohttp loop, whole command", FIRST, 1.2, against=(AIOHTTP,)),
    Goal("of the bare aiohttp loop, second pass (304)", KNOWN, 2, against=(AIOHTTP,), against_figure=FIRST),
    Goal("of the bare aiohttp loop, changed documents", CHANGED, 0.75, against=(AIOHTTP,), against_figure=FIRST),
    Goal("of the bare curl loop, whole command", FIRST, 0.6, against=(CURL,)),
    Goal("of one process, 2 processes", FIRST, 1.7, of=TWO, against=(OURS,)),
    *(Goal(f"of {name}", FIRST, 10, against=(name,)) for name in (SCRAPY, READER, NEWSBOAT, THREADS)),
]


def measure_ours(site: Site, created: Databases, processes: int) -> Figures:
    """Three whole commands on one database: new feeds, then unchanged ones, then changed ones without a new story."""
    with new_project(created, BATCHES_CONCURRENCY=AT_ONCE) as project:
        passes = {}
        for name, shown, stories in ((FIRST, "same", STORIES), (KNOWN, "same", 0), (CHANGED, "changed", 0)):
            site.show(shown)
            passes[name] = project.check_list(site.all, processes)
            require_complete(project.newest_batch(), site.count, site.count * stories)
    site.show("same")
    speeds = {name: site.count / finished.seconds for name, finished in passes.items()}
    first = passes[FIRST]
    return speeds | {"CPU µs/feed": 1e6 * first.cpu / site.count, "MB": first.memory}


def measure_loop(site: Site, package: str, script: str, options: dict[str, object]) -> Figures:
    finished = run_peer(package, script, **{"file": str(site.all), "at_once": AT_ONCE, "timeout": TIMEOUT, **options})
    expect_all(finished, site.count, options.get("parse", True))
    return describe(finished, site.count)


def measure_slow(site: Site, package: str, script: str) -> Figures:
    with TemporaryDirectory(dir=VAR) as folder:
        finished = run_few(site, package, script, folder)
    return describe(finished, site.few_count)


def measure_reader(site: Site, package: str, script: str) -> Figures:
    """Two passes over one store: it remembers what it has seen."""
    with TemporaryDirectory(dir=VAR) as folder:
        first = run_few(site, package, script, folder)
        second = run_few(site, package, script, folder, known=True)
    return describe(first, site.few_count) | {KNOWN: site.few_count / second.seconds}


def run_few(site: Site, package: str, script: str, folder: str, known: bool = False) -> Finished:
    options = {"at_once": AT_ONCE, "timeout": TIMEOUT, "database": f"{folder}/db", "folder": folder, "known": known}
    finished = run_peer(package, script, file=str(site.few), **options)
    expect_all(finished, site.few_count)
    return finished


def run_peer(package: str, script: str, **options: object) -> Finished:
    """Raises Unavailable if its package is not installed."""
    if package and package not in installed_peers():
        raise Unavailable(f"{package} is not installed: make bench")
    return run(peer(script, **options))


def expect_all(finished: Finished, feeds: int, stories: object = True) -> None:
    figures = finished.figures
    assert figures["feeds"] == feeds, finished.output
    assert not stories or figures["stories"] == feeds * STORIES, finished.output


def describe(finished: Finished, count: int) -> Figures:
    return {FIRST: count / finished.seconds, "CPU µs/feed": 1e6 * finished.cpu / count, "MB": finished.memory}


ROWS = [Row("feeds", "20,000 feeds with 4 new stories each, whole commands", 90, open_feeds)]

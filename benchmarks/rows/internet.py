"""Feeds as they are on the internet: many hosts, TLS, large documents, latency, and hosts that do not work."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.commands import VAR, Finished, background, manage, peer, run
from benchmarks.documents import LARGE_STORIES, write_large_feeds
from benchmarks.frame import OURS, Contender, Contest, Figures, Goal, Row, Scale, Unavailable, prose
from benchmarks.lists import write_list
from benchmarks.machine import installed_peers
from benchmarks.ours import new_project, require_complete
from benchmarks.rows.feeds import AIOHTTP, CURL, SCRAPY, TWO, Site, measure_loop
from benchmarks.services import internet
from benchmarks.services.certificates import Authority
from benchmarks.services.databases import Databases, databases
from benchmarks.services.namespace import namespace
from benchmarks.services.nginx import location, nginx

SPEED = "feeds/s"
FAILED = "good feeds that failed"
IDEAL = "ideal"
AT_ONCE, TIMEOUT = 500, 20
LATENCY = 0.2
HOSTS_PER_CERTIFICATE = 100
DOCUMENTS = 200

DIFFERS = prose("""
    20,000 host names in a network namespace with its own name server (50 ms for a lookup), a TLS connection for
    each (EC key, certificates with 100 names), one of 200 documents with 47 KB after compression and 146 KB before,
    sent 200 ms after the request. Of 100 hosts 2 drop every packet, 2 send a byte a second, and 1 has no address;
    the limit for each is 20 s. nginx and the name server run on the same cores. 500 requests at once in each
    process. The ideal is the speed of a core that does nothing but the work of the bare curl loop with good hosts:
    lookup, TLS, decompression, parsing. Nobody publishes a figure like this one, so the method matters more than
    the figure.
""")


class Internet:
    """A list of addresses in a namespace, with their servers."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        numbers = range(count)
        self.good = [number for number in numbers if internet.kind_of(number) == internet.GOOD]
        self.all_file = write_list(folder / "all.txt", [url_of(number) for number in numbers])
        self.good_file = write_list(folder / "good.txt", [url_of(number) for number in self.good])
        self.few = [number for number in numbers if number < count // 5]
        self.few_file = write_list(folder / "few.txt", [url_of(number) for number in self.few])
        self.authority = Authority(folder)
        self.prefix: list[str] = []
        write_large_feeds(folder / "documents", DOCUMENTS)

    @contextmanager
    def serve(self, latency: float) -> Iterator[None]:
        tarpits = [internet.host(number) for number in range(self.count) if internet.kind_of(number) == internet.TARPIT]
        trap = self.authority.issue("tarpit", tarpits)
        with ExitStack() as stack:
            self.prefix = stack.enter_context(namespace(self.folder, self.authority.certificate))
            script = [manage()[0], "-m", "benchmarks.services.internet", trap, self.authority.key]
            stack.enter_context(background([*self.prefix, *script]))
            stack.enter_context(nginx(self.folder, self.server_blocks(latency), self.prefix))
            yield

    def server_blocks(self, latency: float) -> str:
        listen = "".join(f"listen 127.0.2.{1 + number}:443 ssl;" for number in range(internet.GOOD_ADDRESSES))
        place = location(self.folder / "documents", latency)
        groups = [
            self.good[begin : begin + HOSTS_PER_CERTIFICATE]
            for begin in range(0, len(self.good), HOSTS_PER_CERTIFICATE)
        ]
        return "\n".join(self.server_block(number, group, listen, place) for number, group in enumerate(groups))

    def server_block(self, number: int, group: list[int], listen: str, place: str) -> str:
        hosts = [internet.host(member) for member in group]
        certificate = self.authority.issue(f"group{number}", hosts)
        names = " ".join(hosts)
        keys = f"ssl_certificate {certificate}; ssl_certificate_key {self.authority.key};"
        return f"server {{ {listen} server_name {names}; {keys} {place} }}"


def url_of(number: int) -> str:
    return f"https://{internet.host(number)}/{number % DOCUMENTS}.xml"


@contextmanager
def open_internet(scale: Scale) -> Iterator[Contest]:
    with databases("sqlite") as created, TemporaryDirectory(dir=VAR) as folder:
        place = Internet(Path(folder), scale.pick(20_000, 200))
        with place.serve(LATENCY):
            yield Contest(
                [
                    Contender(OURS, lambda: measure_ours(place, created, 1)),
                    Contender(TWO, lambda: measure_ours(place, created, 2)),
                    Contender(IDEAL, lambda: measure_ideal(place)),
                    Contender(AIOHTTP, partial(measure_peer, place, "aiohttp", "aiohttp_loop.py", False)),
                    Contender(CURL, partial(measure_peer, place, "pycurl", "curl_loop.py", False)),
                    Contender(SCRAPY, partial(measure_peer, place, "scrapy", "scrapy_spider.py", True)),
                ],
                [
                    Goal("of the CPU-bound ideal", SPEED, 0.65, against=(IDEAL,)),
                    Goal("of the CPU-bound ideal of one core, 2 processes", SPEED, 0.65, of=TWO, against=(IDEAL,)),
                    Goal("good feeds that failed", FAILED, 0, at_most=True),
                ],
                DIFFERS,
            )


def measure_ours(place: Internet, created: Databases, processes: int) -> Figures:
    with new_project(created, BATCHES_CONCURRENCY=AT_ONCE, BATCHES_TIMEOUT=TIMEOUT) as project:
        finished = project.check_list(place.all_file, processes, place.prefix)
        details = project.newest_batch()
    require_complete(details, place.count)
    return {
        SPEED: place.count / finished.seconds,
        FAILED: len(place.good) - details["successful_checks"],
        "CPU µs/feed": 1e6 * finished.cpu / place.count,
        "MB": finished.memory,
    }


def measure_ideal(place: Internet) -> Figures:
    finished = run_peer(place, "pycurl", "curl_loop.py", place.good_file)
    require_read(finished, len(place.good))
    return {SPEED: len(place.good) / finished.cpu, "CPU µs/feed": 1e6 * finished.cpu / len(place.good)}


def measure_peer(place: Internet, package: str, script: str, few: bool) -> Figures:
    numbers, file = (place.few, place.few_file) if few else (range(place.count), place.all_file)
    finished = run_peer(place, package, script, file)
    good = sum(internet.kind_of(number) == internet.GOOD for number in numbers)
    return {
        SPEED: len(numbers) / finished.seconds,
        FAILED: good - finished.figures["feeds"],
        "CPU µs/feed": 1e6 * finished.cpu / len(numbers),
        "MB": finished.memory,
    }


def run_peer(place: Internet, package: str, script: str, file: Path) -> Finished:
    if package not in installed_peers():
        raise Unavailable(f"{package} is not installed: make bench")
    options = {"at_once": AT_ONCE, "timeout": TIMEOUT, "parse": True, "authority": str(place.authority.certificate)}
    return run([*place.prefix, *peer(script, file=str(file), **options)])


def require_read(finished: Finished, feeds: int) -> None:
    figures = finished.figures
    assert (figures["feeds"], figures["stories"]) == (feeds, feeds * LARGE_STORIES), json.dumps(figures)


# Latency alone

SHORT_LATENCY, SHORT_AT_ONCE = 0.05, 200
MOST = SHORT_AT_ONCE / SHORT_LATENCY
LATENCY_DIFFERS = prose("""
    Each response comes 50 ms after its request, and 200 requests are under way at once, so that nobody can be
    faster than 4,000/s. Whole commands; the small feeds of the other row on 100 loopback addresses.
""")


@contextmanager
def open_latency(scale: Scale) -> Iterator[Contest]:
    with databases("sqlite") as created, TemporaryDirectory(dir=VAR) as folder:
        site = Site(Path(folder), scale.pick(40_000, 500))
        loop = partial(measure_delayed_loop, site)
        with site.serve(SHORT_LATENCY):
            yield Contest(
                [
                    Contender(OURS, lambda: measure_delayed(site, created, 1)),
                    Contender(TWO, lambda: measure_delayed(site, created, 2)),
                    Contender(AIOHTTP, partial(loop, "aiohttp", "aiohttp_loop.py")),
                    Contender(CURL, partial(loop, "pycurl", "curl_loop.py")),
                ],
                [
                    Goal("of 4,000/s", "of the ideal", 0.65),
                    Goal("of 4,000/s, 2 processes", "of the ideal", 0.65, of=TWO),
                ],
                LATENCY_DIFFERS,
            )


def measure_delayed(site: Site, created: Databases, processes: int) -> Figures:
    # The maximum number of requests is active, divided among the processes.
    with new_project(created, BATCHES_CONCURRENCY=SHORT_AT_ONCE // processes) as project:
        finished = project.check_list(site.all, processes)
    return describe(finished, site.count)


def measure_delayed_loop(site: Site, package: str, script: str) -> Figures:
    figures = measure_loop(site, package, script, {"parse": True, "at_once": SHORT_AT_ONCE})
    speed = next(iter(figures.values()))
    return {SPEED: speed, "of the ideal": speed / MOST}


def describe(finished: Finished, count: int) -> Figures:
    speed = count / finished.seconds
    return {SPEED: speed, "of the ideal": speed / MOST, "CPU µs/feed": 1e6 * finished.cpu / count}


ROWS = [
    Row("internet", "20,000 hosts as on the internet: TLS, 47 KB, 200 ms, dead hosts and tarpits", 120, open_internet),
    Row("latency", "Feeds with 50 ms of latency, 200 at once", 30, open_latency),
]

"""Which part of a large installation saturates first: `python -m benchmarks.model`, with every input printed.

Each limit is arithmetic on a few inputs. The inputs of the engine are measured (`benchmarks/`, docs: Performance), the
inputs of the installation are assumptions. Change any of them: `--machines 10 --profiles 10000000`.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import NamedTuple

MEASURED, ASSUMED = "measured", "assumed"


def given(value: float, help: str, source: str = ASSUMED) -> float:
    made: float = field(default=value, metadata={"help": help, "source": source})
    return made


@dataclass(frozen=True)
class Installation:
    """The inputs, in the units that their texts name."""

    machines: float = given(100, "machines that check")
    cores: float = given(8, "cores of each, and as many processes")
    profiles: float = given(100e6, "profiles in one batch")
    domains: float = given(5e6, "registrable domains that they are on")
    largest: float = given(0.001, "share of the profiles that is on the largest domain")
    latency: float = given(0.5, "seconds that a check takes")
    concurrency: float = given(100, "checks at once of a process (BATCHES_CONCURRENCY)")
    per_host: float = given(2, "requests at once to a domain (BATCHES_PER_HOST)")
    partitions: float = given(256, "partitions of a batch, so processes that can share it")
    check_ms: float = given(0.43, "ms of CPU for a check, with reading and recording", MEASURED)
    kilobytes: float = given(20, "kB that a check receives, over all answers")
    line: float = given(10, "Gbit/s of each machine's line")
    record_ms: float = given(0.12, "ms of a core of PostgreSQL for each result", MEASURED)
    database_cores: float = given(32, "cores of PostgreSQL")
    pages: float = given(10, "pages, polls and exports that people and programs ask for in a second")
    page_ms: float = given(100, "ms of a core of PostgreSQL for each of them")
    wal_bytes: float = given(520, "bytes of WAL for each result", MEASURED)
    wal_megabytes: float = given(200, "MB/s of WAL that its disk takes")
    commit_ms: float = given(1.0, "ms of a commit on that disk")
    chunk: float = given(25, "results in a recording transaction of a process")
    lease_ms: float = given(1.0, "ms of a call that leases partitions, or renews a lease", MEASURED)
    look_ms: float = given(0.43, "ms of a look whether the queue has changed, five times a second", MEASURED)
    row_bytes: float = given(
        500, "bytes that a profile takes in a batch, with indexes and its share of the profile", MEASURED
    )

    @property
    def processes(self) -> float:
        return self.machines * self.cores

    @property
    def reading_cores(self) -> float:
        """Of PostgreSQL."""
        return self.pages * self.page_ms / 1000


class Limit(NamedTuple):
    """The capacity of one part, in profiles a second, and the remedy when it is the first limit."""

    part: str
    rate: float
    then: str


def find_limits(it: Installation) -> list[Limit]:
    """The lowest first."""
    return sorted(_limits(it), key=lambda limit: limit.rate)


def _limits(it: Installation) -> Iterator[Limit]:
    of_process = min(it.concurrency / it.latency, 1000 / it.check_ms)
    at_work = min(it.processes, it.partitions)
    yield Limit("processes", it.processes * of_process, "more machines; with slow sites first BATCHES_CONCURRENCY")
    yield Limit(
        "partitions",
        at_work * of_process,
        "several batches' worth of lists do not help: one batch runs. More PARTITIONS",
    )
    yield Limit("CPU of the machines", it.processes * 1000 / it.check_ms, "more machines")
    yield Limit(
        "lines of the machines",
        it.machines * it.line * 1e6 / 8 / it.kilobytes,
        "more machines, or conditional requests",
    )
    yield Limit(
        "politeness to the largest domain",
        it.profiles / (it.profiles * it.largest * it.latency / it.per_host),
        "nothing: more requests at once only with its owner's consent (BATCHES_PER_HOST)",
    )
    yield Limit(
        "politeness to all domains", it.domains * it.per_host / it.latency, "nothing: the domains answer no faster"
    )
    yield Limit(
        "cores of PostgreSQL",
        1000 * (it.database_cores - it.reading_cores) / it.record_ms,
        "a larger machine; a read replica for exports and the API; tables partitioned by batch, for small indexes",
    )
    yield Limit(
        "WAL of PostgreSQL", it.wal_megabytes * 1e6 / it.wal_bytes, "its own disk; fillfactor 50; wal_compression"
    )
    yield Limit(
        "commits of one process",
        at_work * it.chunk * 1000 / (it.commit_ms + it.chunk * it.record_ms),
        "BATCHES_RECORD_SECONDS",
    )


def describe(it: Installation) -> Iterator[str]:
    yield "Inputs"
    for entry in fields(it):
        meaning = f"{entry.metadata['help']} ({entry.metadata['source']})"
        yield f"  {entry.name:<16} {getattr(it, entry.name):>15,g}  {meaning}"
    limits = find_limits(it)
    yield f"\nLimits for {it.profiles:,.0f} profiles, the first to saturate at the top"
    yield f"  {'part':<34} {'profiles/s':>14} {'hours':>9}  then"
    for limit in limits:
        yield f"  {limit.part:<34} {limit.rate:>14,.0f} {it.profiles / limit.rate / 3600:>9,.2f}  {limit.then}"
    yield from _describe_load(it, limits[0].rate)


def _describe_load(it: Installation, rate: float) -> Iterator[str]:
    at_work = min(it.processes, it.partitions)
    renewals = at_work / 2  # every two seconds
    idle = it.processes - at_work
    cores = (rate * it.record_ms + renewals * it.lease_ms + 5 * idle * it.look_ms) / 1000 + it.reading_cores
    yield "\nAt the speed of the first"
    yield f"  {rate / it.chunk:,.0f} recordings and {renewals:,.0f} renewals a second"
    yield f"  {5 * idle:,.0f} looks a second by the {idle:,.0f} idle processes"
    yield f"  {cores:,.1f} cores of PostgreSQL, {it.reading_cores:,.1f} of them for pages"
    yield f"  {rate * it.wal_bytes / 1e6:,.0f} MB/s of WAL"
    yield f"  {it.profiles * it.row_bytes / 1e9:,.0f} GB for the batch"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model", description=__doc__)
    for entry in fields(Installation):
        name = f"--{entry.name.replace('_', '-')}"
        parser.add_argument(name, type=float, default=entry.default, help=f"{entry.metadata['help']} (%(default)g)")
    print("\n".join(describe(Installation(**vars(parser.parse_args())))))


if __name__ == "__main__":
    main()

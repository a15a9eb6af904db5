"""Runs faults and mutants and reports the outcomes."""

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median

from . import callers, server
from .child import Setup
from .databases import open_database
from .environment import LEASE_SECONDS, POLL_SECONDS, TOLERANCE
from .faults import FAULTS, Fault, clock
from .mutants import MUTANTS
from .pairs import PAIRS
from .stage import Actor, House, Stage

#: Enough to try each pair of calls once.
MUTANT_COUNT = {"pairs": len(PAIRS), "freeze": 4, "lose": 6, "share": 16, "pause-4": 20}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one fault on one database. Times are in seconds."""

    fault: str
    database: str
    wanted: int
    tried: int
    breaches: Sequence[str]
    recovery: float | None
    longest_recovery: float | None
    longest_stall: float
    snapshots: int
    #: Responses to callers, and how many of them said that the database is unavailable.
    calls: int
    unavailable: int
    seconds: float
    not_tried: str = ""
    mutant: str = ""
    #: The command that makes the same choices again.
    replay: str = ""

    @property
    def verdict(self) -> str:
        if self.not_tried:
            return f"not tried: {self.not_tried}"
        if self.tried < self.wanted and not self.breaches:
            return f"only {self.tried} of {self.wanted} tried"
        return "broken" if self.breaches else "holds"

    @property
    def is_bad(self) -> bool:
        """Faults must hold and mutants must break."""
        return not self.not_tried and (self.verdict == "holds") == bool(self.mutant)


def run_fault(house: House, name: str, seed: int, scale: float, mutant: str = "") -> Outcome:
    """Run a fault. Each has its own seed, so it makes the same choices alone and after others."""
    fault, vendor = FAULTS[name], house.database.vendor
    count = MUTANT_COUNT[name] if mutant else scale_count(fault, scale)
    began = time.monotonic()
    with Stage(house, mutant, fault.config, fault.workers, f"{seed} {vendor} {name} {mutant}") as stage:
        try:
            fault.make(stage, count)
            if not stage.not_tried:
                stage.settle()
        except Exception as error:
            stage.breach("".join(traceback.format_exception(error)[-3:]))
    return Outcome(
        fault=name,
        database=vendor,
        wanted=count,
        tried=stage.tried,
        breaches=stage.breaches,
        recovery=median(stage.recoveries) if stage.recoveries else None,
        longest_recovery=max(stage.recoveries, default=None),
        longest_stall=stage.longest_stall,
        snapshots=stage.snapshots,
        calls=stage.responses.total(),
        unavailable=stage.responses[callers.UNAVAILABLE],
        seconds=time.monotonic() - began,
        not_tried=stage.not_tried,
        mutant=mutant,
        replay=f"python -m stress --seed {seed} --database {vendor} --scale {scale:g} "
        + (f"--faults none --mutants {mutant}" if mutant else f"--faults {name}"),
    )


def run_all(
    vendors: Iterable[str], faults: Sequence[str], mutants: Sequence[str], seed: int, scale: float, log: Path
) -> Iterator[Outcome]:
    for vendor in vendors:
        needing_clock = list(filter(_needs_clock, faults))
        here = [name for name in faults if vendor in FAULTS[name].databases and name not in needing_clock]
        mutated = [name for name in mutants if vendor in MUTANTS[name].databases]
        if here or mutated:
            with open_house(vendor, log) as house:
                for name in here:
                    yield run_fault(house, name, seed, scale)
                for name in mutated:
                    yield run_fault(house, MUTANTS[name].caught_by, seed, scale, mutant=name)
        for name in needing_clock:
            yield from _with_another_clock(vendor, name, seed, scale, log)


def scale_count(fault: Fault, scale: float) -> int:
    return max(fault.least, ceil(fault.count * scale))


@contextmanager
def open_house(vendor: str, log: Path) -> Iterator[House]:
    with open_database(vendor) as database:
        served = Actor(server.serve, Setup(database.url, log))
        try:
            _, _, port = served.link.recv()
            yield House(database, server.Server(port), log, callers.make_credentials())
        finally:
            served.kill()


def _needs_clock(name: str) -> bool:
    """Whether it has to run in a separate harness, which has such a clock, and can."""
    return FAULTS[name].needs_clock and clock.TIME_FILE not in os.environ and clock.library() is not None


def _with_another_clock(vendor: str, name: str, seed: int, scale: float, log: Path) -> Iterator[Outcome]:
    """Run a separate harness that starts all its processes with the library."""
    with tempfile.TemporaryDirectory(prefix="batches-stress-clock-") as directory:
        os.chmod(directory, 0o755)
        command = [sys.executable, "-m", "stress", "--database", vendor, "--faults", name, "--json"]
        command += [f"--seed={seed}", f"--scale={scale}", f"--log={log}", f"--time-file={directory}/time"]
        done = subprocess.run(command, capture_output=True, text=True)
        if not done.stdout:
            raise RuntimeError(f"The harness with another clock failed:\n{done.stderr}")
        yield from (Outcome(**outcome) for outcome in json.loads(done.stdout))


# The table


COLUMNS = "{:<37}{:<12}{:>11}  {:>9}  {:>17}  {:>7}  {:>14}  {:>7}  {}"


def heading() -> str:
    title = COLUMNS.format("fault", "database", "tried", "breaches", "recovery", "stall", "calls", "seconds", "")
    return f"{title}\n{COLUMNS.format('', '', '', '', 'median / max, s', 'max, s', '(503)', '', '')}"


def line(outcome: Outcome) -> str:
    recovery = "" if outcome.recovery is None else f"{outcome.recovery:.2f} / {outcome.longest_recovery:.2f}"
    text = COLUMNS.format(
        f"{outcome.fault} without {outcome.mutant}" if outcome.mutant else outcome.fault,
        outcome.database,
        f"{outcome.tried:,}/{outcome.wanted:,}",
        len(outcome.breaches),
        recovery,
        f"{outcome.longest_stall:.2f}",
        f"{outcome.calls:,} ({outcome.unavailable:,})" if outcome.calls else "",
        f"{outcome.seconds:.0f}",
        outcome.verdict,
    )
    replay = [f"    Repeat it with: {outcome.replay}"] if outcome.is_bad else []
    return "\n".join([text, *(f"    {breach}" for breach in outcome.breaches), *replay])


def legend(seed: int) -> str:
    return (
        f"Seed {seed}. Lease {LEASE_SECONDS} s, poll {POLL_SECONDS} s; tolerance {TOLERANCE:g} s for a loaded machine. "
        "The watcher checks the invariants every 100 ms."
    )

"""Makes each fault happen on each database, as often as asked, and prints what came of it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from stress import environment

environment.prepare()

from stress import run  # noqa: E402
from stress.databases import VENDORS  # noqa: E402
from stress.faults import FAULTS, clock  # noqa: E402
from stress.mutants import MUTANTS  # noqa: E402


def main() -> int:
    options = parser().parse_args()
    if options.time_file:  # for the processes that are started; the harness itself keeps its own clock
        os.environ.update(clock.environment(Path(options.time_file)))
    with tempfile.TemporaryDirectory() as directory:
        log = Path(options.log or f"{directory}/log")
        vendors = [options.database] if options.database else VENDORS
        mutants = list(MUTANTS) if options.mutants == "all" else _names(options.mutants, MUTANTS)
        faults = [] if options.faults == "none" else _names(options.faults, FAULTS)
        outcomes = []
        if not options.json:
            print(f"{run.legend()}\n\n{run.heading()}", flush=True)
        for outcome in run.run_all(vendors, faults, mutants, options.scale, log):
            outcomes.append(outcome)
            if not options.json:
                print(run.line(outcome), flush=True)
        if options.json:
            print(json.dumps([asdict(outcome) for outcome in outcomes]))
        return int(any(outcome.is_bad for outcome in outcomes))


def parser() -> argparse.ArgumentParser:
    faults = "\n".join(
        f"  {name:<10}{fault.count:>5}  {fault.what}: {fault.must_hold}" for name, fault in FAULTS.items()
    )
    mutants = "\n".join(f"  {name:<22}without {mutant.without}" for name, mutant in MUTANTS.items())
    it = argparse.ArgumentParser(
        prog="python -m stress",
        description=__doc__,
        epilog=f"faults, and how often per database:\n{faults}\n\nmutants:\n{mutants}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    it.add_argument("--database", choices=VENDORS, help="Only on this one.")
    it.add_argument("--faults", default="all", help="Names, with commas; all (the default); none.")
    it.add_argument("--mutants", default="", help="Names, with commas; or all: each must turn its fault red.")
    it.add_argument("--scale", type=float, default=1.0, help="Of the counts (default: 1); each happens at least once.")
    it.add_argument("--json", action="store_true", help="For programs, when all is over.")
    it.add_argument("--log", help="A file that keeps what the processes log.")
    it.add_argument("--time-file", help=argparse.SUPPRESS)
    return it


def _names(text: str, known: Mapping[str, object]) -> list[str]:
    names = list(known) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"There is no {', '.join(unknown)}, only {', '.join(known)}.")
    return names


if __name__ == "__main__":
    sys.exit(main())

"""Injects each fault on each database and prints the outcome."""

import argparse
import json
import os
import secrets
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
    options = make_parser().parse_args()
    if options.time_file:  # for child processes only; the harness keeps the real clock
        os.environ.update(clock.environment(Path(options.time_file)))
    with tempfile.TemporaryDirectory() as directory:
        log = Path(options.log or f"{directory}/log")
        vendors = [options.database] if options.database else VENDORS
        mutants = list(MUTANTS) if options.mutants == "all" else _parse_names(options.mutants, MUTANTS)
        faults = [] if options.faults == "none" else _parse_names(options.faults, FAULTS)
        outcomes = []
        if not options.json:
            print(f"{run.legend(options.seed)}\n\n{run.heading()}", flush=True)
        for outcome in run.run_all(vendors, faults, mutants, options.seed, options.scale, log):
            outcomes.append(outcome)
            if not options.json:
                print(run.line(outcome), flush=True)
        if options.json:
            print(json.dumps([asdict(outcome) for outcome in outcomes]))
        return int(any(outcome.is_bad for outcome in outcomes))


def make_parser() -> argparse.ArgumentParser:
    faults = "\n".join(
        f"  {name:<10}{fault.count:>5}  {fault.what}; {fault.must_hold}" for name, fault in FAULTS.items()
    )
    mutants = "\n".join(f"  {name:<22}without {mutant.without}" for name, mutant in MUTANTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m stress",
        description=__doc__,
        epilog=f"faults, with the count per database:\n{faults}\n\nmutants:\n{mutants}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--database", choices=VENDORS, help="Run on this database only.")
    parser.add_argument("--faults", default="all", help="Comma-separated names, all (the default) or none.")
    parser.add_argument("--mutants", default="", help="Comma-separated names, or all. Each must make its fault fail.")
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="Multiply the counts by this (default: 1, at least once).",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=secrets.randbelow(1_000_000),
        help="Make the same choices as the run that printed this seed (default: a new one).",
    )
    parser.add_argument("--json", action="store_true", help="Print JSON at the end instead of a table.")
    parser.add_argument("--log", help="Write the log of all processes to this file.")
    parser.add_argument("--time-file", help=argparse.SUPPRESS)
    return parser


def _parse_names(text: str, known: Mapping[str, object]) -> list[str]:
    names = list(known) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"Unknown name: {', '.join(unknown)}. Choose from {', '.join(known)}.")
    return names


if __name__ == "__main__":
    sys.exit(main())

"""Measures the queue against its alternatives, and prints a table.

Each measurement is stored immediately. An interrupted run continues where it stopped, and skips finished rows, unless
`--again` is given.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import traceback
from itertools import product

from benchmarks import commands, report
from benchmarks.commands import VAR, CommandFailed
from benchmarks.frame import Contest, Row, Scale, Unavailable
from benchmarks.machine import describe_machine, describe_versions
from benchmarks.rows import ROWS
from benchmarks.store import Store

#: Where the measurements of each scale are stored.
NAMES = {1.0: "results.json", 0.0: "small.json"}


def main() -> int:
    options = make_parser().parse_args()
    allow_many_files()
    options.scale = 0.0 if options.small else options.scale
    store = Store(VAR / NAMES.get(options.scale, f"results-{options.scale:g}.json"))
    if options.list:
        print("\n".join(f"{row.name:<24} {row.title}" for row in ROWS.values()))
        return 0
    faults = 0 if options.report else run(store, [ROWS[name] for name in options.row or ROWS], options)
    print(report.markdown(report.select(store.content, options.row or list(ROWS))))
    if options.publish:
        report.publish(report.select(store.content, list(ROWS)))
    return min(faults, 1)


def allow_many_files() -> None:
    """Raise the limit of open files as far as possible: both sides have hundreds of connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("row", nargs="*", choices=[*ROWS, []], metavar="ROW", help="Names of rows (default: all).")
    parser.add_argument("--list", action="store_true", help="List the rows.")
    parser.add_argument("--small", action="store_true", help="Little work and one round: shows that everything works.")
    parser.add_argument("--scale", type=float, default=1.0, help="Multiply the amount of work, as in 0.1 (default: 1).")
    parser.add_argument("--rounds", type=int, help="Number of rounds (default: 3, or the row's own).")
    parser.add_argument("--minutes", type=float, help="Time limit for each row (default: its own).")
    parser.add_argument("--again", action="store_true", help="Measure finished rows again.")
    parser.add_argument("--report", action="store_true", help="Measure nothing, print the stored measurements.")
    parser.add_argument("--publish", action="store_true", help="Write the table of docs/explanation/performance.md.")
    return parser


def run(store: Store, rows: list[Row], options: argparse.Namespace) -> int:
    """Measure these rows. A fault ends only its row, since a run takes hours. Returns the number of faults."""
    store.content |= {"machine": describe_machine(), "versions": describe_versions()}
    faults = 0
    for row in rows:
        rounds = options.rounds or (1 if options.small else row.rounds)
        if options.again:
            store.forget(row)
        if store.is_finished(row, rounds):
            print(f"{row.name}: measured already", flush=True)
            continue
        try:
            measure(store, row, Scale(options.scale), rounds, 60 * (options.minutes or row.minutes))
        except Exception as fault:
            faults += 1
            print(traceback.format_exc(), flush=True)
            store.fail(store.content["rows"][row.name], f"{type(fault).__name__}: {fault}")
    return faults


def measure(store: Store, row: Row, scale: Scale, rounds: int, seconds: float) -> None:
    print(f"\n{row.name}: {row.title}", flush=True)
    commands.limit_commands(seconds)
    record = store.begin(row)
    try:
        with row.open(scale) as contest:
            take_turns(store, record, contest, rounds)
            store.finish(record, contest)
    except (Unavailable, CommandFailed) as error:
        print(f"  cannot be measured: {error}", flush=True)
        store.fail(record, str(error))


def take_turns(store: Store, record: dict, contest: Contest, rounds: int) -> None:  # type: ignore[type-arg]
    # A B C, A B C, …: a temporary disturbance of the machine affects all of them.
    for number, contender in product(range(rounds), contest.contenders):
        done = number < len(record["rounds"]) and contender.name in record["rounds"][number]
        if done or contender.name in record["problems"]:
            continue
        if not commands.seconds_left():
            record["problem"] = f"The time limit ended the measurement in round {number + 1}."
            print(f"  {record['problem']}", flush=True)
            return
        started = time.perf_counter()
        try:
            figures = contender.measure()
        except (Unavailable, CommandFailed) as error:
            record["problems"][contender.name] = str(error)
            print(f"  {contender.name}: {error}", flush=True)
            continue
        store.add(record, number, contender.name, figures)
        print(f"  {number + 1}. {contender.name}: {report.figures_text(figures)}", end=" ")
        print(f"({time.perf_counter() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())

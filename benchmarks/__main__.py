"""Runs each benchmark in a new process on a new SQLite database, or on the one in BENCH_DATABASE_URL."""

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
from importlib import import_module

BENCHMARKS = {
    "noop": "checks that do nothing, end to end: the overhead of the queue",
    "feeds": "feeds over loopback, compared with a loop that fetches and parses but records nothing",
    "memory": "the memory of a worker on a batch of a million profiles",
    "api_upload": "uploading a list of 100,000 addresses through the API",
    "queue": "each transition with 10,000 queued batches",
    "locks": "how long others wait for the queue while a batch of a million profiles is stored or checked again",
    "api": "reading through the API: lists of a million rows at any depth, 10,000 queued batches, 50 polling clients",
    "export": "exporting a batch of a million profiles: speed, and memory that must not grow",
    "console": "the live queue page with 10,000 queued batches",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("benchmark", nargs="*", choices=[*BENCHMARKS, []], help="; ".join(BENCHMARKS))
    parser.add_argument("--profiles", type=int, help="Number of profiles or batches (default: that of the benchmark).")
    parser.add_argument("--rounds", type=int, default=3, help="Number of rounds; the median counts (default: 3).")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        measure(options.benchmark[0], options.profiles, options.rounds)
        return
    for name in options.benchmark or BENCHMARKS:
        print(f"\n{name}: {BENCHMARKS[name]}", flush=True)
        run_in_new_process(name, options.profiles, options.rounds)


def run_in_new_process(name: str, profiles: int | None, rounds: int) -> None:
    command = [sys.executable, "-m", "benchmarks", name, "--here", f"--rounds={rounds}"]
    command += [f"--profiles={profiles}"] if profiles else []
    with tempfile.TemporaryDirectory() as folder:
        database = os.environ.get("BENCH_DATABASE_URL") or f"sqlite:///{folder}/bench.sqlite3"
        environment = {
            **os.environ,
            "DATABASE_URL": database,
            "SECRET_KEY": secrets.token_urlsafe(50),
            "DJANGO_SETTINGS_MODULE": "batchproject.settings",
            "BATCHES_CHECKERS": "noop=benchmarks.noop.NoopChecker",
            "BATCHES_ALLOWED_NETWORKS": "127.0.0.1/32",
            "BATCHES_PER_HOST": "100",
            "LOG_LEVEL": "WARNING",
        }
        subprocess.run(command, env=environment, check=True)


def measure(name: str, profiles: int | None, rounds: int) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    benchmark = import_module(f"benchmarks.{name}")
    for line in benchmark.run(profiles or benchmark.PROFILES, rounds):
        print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()

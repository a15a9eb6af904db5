"""Each benchmark runs in a process of its own, on a database of its own: SQLite, or what BENCH_DATABASE_URL names."""

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
from importlib import import_module

BENCHMARKS = {
    "noop": "checks that do nothing, end to end: the queue's own cost",
    "feeds": "feeds over loopback, against a loop that fetches and parses but records nothing",
    "memory": "a worker's memory on a batch of a million profiles",
    "api_upload": "a list of 100,000 addresses uploaded through the API",
    "queue": "each transition with 10,000 waiting batches",
    "api": "reading: lists of a million at any depth, the queue with 10,000 waiting, 50 clients that poll",
    "export": "a batch of a million profiles as a file: speed, and memory that does not grow",
    "console": "the live queue page with 10,000 waiting batches",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("benchmark", nargs="*", choices=[*BENCHMARKS, []], help="; ".join(BENCHMARKS))
    parser.add_argument("--profiles", type=int, help="How many profiles (or batches), instead of the benchmark's own.")
    parser.add_argument("--rounds", type=int, default=3, help="Rounds, of which the median counts (default: 3).")
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

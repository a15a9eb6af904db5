"""Sets up Django, runs a module's `measure` with the options in the second argument, and prints its figures."""

import json
import sys
from importlib import import_module

import django


def main() -> None:
    name, options = sys.argv[1], json.loads(sys.argv[2])
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    print(json.dumps(import_module(f"benchmarks.inside.{name}").measure(**options)))


if __name__ == "__main__":
    main()

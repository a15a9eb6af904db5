#!/usr/bin/env python
"""Django's command-line utility for administrative tasks."""

import sys

from batchproject.program import execute, usable_streams


def main() -> None:
    with usable_streams():
        execute(sys.argv)


if __name__ == "__main__":
    main()

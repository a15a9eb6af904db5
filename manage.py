#!/usr/bin/env python
"""Django's command-line utility for administrative tasks."""

import sys

from batchproject.program import execute, open_closed_streams


def main() -> None:
    open_closed_streams()
    execute(sys.argv)


if __name__ == "__main__":
    main()

"""The common part of the programs that fetch feeds: their options, and the check that they found every story.

The whole command is measured from outside, so that the start of each program counts, as with `batch run`.
"""

import json
import sys
from pathlib import Path


def options() -> dict:
    found = json.loads(sys.argv[1])
    found["urls"] = Path(found["file"]).read_text().split()
    return found


def report(feeds: int, stories: int, **more: float) -> None:
    """`feeds` is the number of feeds that were read without a fault."""
    print(json.dumps({"feeds": feeds, "stories": stories, **more}))

"""The steps of the README's section “Add it to your project”, for the settings and URLs of the host projects."""

import re
from pathlib import Path

README = Path(__file__).parents[3] / "README.md"


def read_step(file: str) -> str:
    """The code that the README shows for this file."""
    [section] = re.findall(r"\n## Add it to your project\n(.*?)\n## ", README.read_text(), re.DOTALL)
    [code] = re.findall(rf"\n    # {re.escape(file)}\n((?:    (?!# ).*\n|\n)*)", section)
    return re.sub("^    ", "", code, flags=re.MULTILINE)

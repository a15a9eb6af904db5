"""The tutorial in `docs/tutorial/api.md` works, with a real curl, server and worker."""

import re
import shutil
import subprocess
import sys

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from batches.tests.conftest import skip_or_fail
from batches.tests.docs.test_code import pattern_of
from batches.tests.support.documents import find_blocks, read_page

#: Printed before the output of each block.
MARK = "-- the next block --"


def steps():
    """The commands of each step, and the output on the page; None without output."""
    found = []
    for block in find_blocks(read_page("tutorial/api.md"), "sh", "output"):
        if block.language == "sh":
            found.append((block.text, None))
        else:
            found[-1] = (found[-1][0], block.text)
    return found


def run_script(script, folder, environ):
    """The output of a bash script, in which `batches` is the `manage.py` of this project."""
    manage = f'batches() {{ {sys.executable} {settings.BASE_DIR}/manage.py "$@"; }}\n'
    bash = ["bash", "-euo", "pipefail", "-c", manage + script]
    done = subprocess.run(bash, cwd=folder, env=environ, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.django_db(transaction=True)
@pytest.mark.databases("sqlite")
def test_the_tutorial_works_and_prints_the_output_on_the_page(tmp_path, commands, demo, site):
    if shutil.which("curl") is None:
        skip_or_fail("curl is missing. Install it with `apt-get install curl`.")
    User.objects.create_superuser("operator")
    commands.start_worker()
    script = "".join(f"echo '{MARK}'\n{block}" for block, _ in steps()).replace("http://127.0.0.1:8000", site)
    script = script.replace("127.0.0.1:8089", demo)
    printed = run_script(script, tmp_path, commands.environ).split(f"{MARK}\n")[1:]
    assert len(printed) == len(steps()) > 10
    for (block, expected), output in zip(steps(), printed, strict=True):
        if expected is not None:
            assert re.fullmatch(pattern_of(expected), output.rstrip("\n"), re.DOTALL), f"{block}\nprinted:\n{output}"

"""The walk through the API in `docs/api.md`, walked with a real curl against a real server and worker."""

import re
import shutil
import subprocess
import sys

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from pytest_django.live_server_helper import LiveServer

from batches.tests.conftest import skip_or_fail
from batches.tests.support.working import commands, server

__all__ = ["commands", "server"]

PAGE = settings.BASE_DIR / "docs" / "api.md"
BLOCK = re.compile(r"^```(sh|output)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: Printed before each block's own output.
MARK = "-- the next block --"

FEED = """<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>
<item><title>The old bridge</title><guid isPermaLink="false">1</guid></item>
<item><title>Rain</title><guid isPermaLink="false">2</guid></item></channel></rss>"""


def steps():
    """The commands of each step, and what the page shows of their output: None where it shows nothing."""
    found = []
    for kind, text in BLOCK.findall(PAGE.read_text()):
        if kind == "sh":
            found.append((text, None))
        else:
            found[-1] = (found[-1][0], text)
    return found


def pattern_of(shown):
    """What output may be where the page shows this: `…` stands for whatever differs or is left out."""
    return ".*".join(re.escape(part) for part in shown.rstrip("\n").split("…"))


@pytest.fixture
def site(transactional_db):
    live = LiveServer("127.0.0.1")
    yield live.url
    live.stop()


@pytest.fixture
def walk(tmp_path, commands, server, site):
    """Runs a script in an empty folder, with the page's addresses led to servers on loopback; what it printed."""

    def run(script):
        places = {"http://127.0.0.1:8000": site, "https://example.org": server.url("").rstrip("/")}
        for place, here in places.items():
            script = script.replace(place, here)
        manage = tmp_path / "bin" / "manage.py"
        manage.parent.mkdir()
        manage.write_text(f'#!/bin/sh\nexec {sys.executable} {settings.BASE_DIR / "manage.py"} "$@"\n')
        manage.chmod(0o755)
        environ = {**commands.environ, "PATH": f"{manage.parent}:{commands.environ['PATH']}"}
        folder = tmp_path / "here"
        folder.mkdir()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())

    return run


@pytest.mark.django_db(transaction=True)
@pytest.mark.databases("sqlite")
def test_the_walk_through_works_and_shows_what_the_page_shows(walk, commands, server):
    if shutil.which("curl") is None:
        skip_or_fail("There is no curl: install it with `apt-get install curl`.")
    User.objects.create_superuser("operator")
    server.answer("/feed", FEED)
    server.answer("/blog", FEED)
    commands.start_worker()
    script = "".join(f"echo '{MARK}'\n{commands}" for commands, _ in steps())
    printed = walk(script).split(f"{MARK}\n")[1:]
    assert len(printed) == len(steps()) > 10
    for (asked, shown), output in zip(steps(), printed, strict=True):
        if shown is not None:
            assert re.fullmatch(pattern_of(shown), output.rstrip("\n"), re.DOTALL), f"{asked}\nprinted:\n{output}"


def test_every_way_to_use_the_api_is_in_the_walk():
    walked = "".join(asked for asked, _ in steps())
    for part in (
        "token create",
        "--form file",
        "etag-compare",
        "Idempotency-Key",
        "bulk/",
        "comparison/",
        "export/csv",
    ):
        assert part in walked

"""To this version and back to the previous one in the middle of a run, each with its own code, as the guide says."""

import json
import subprocess
import sys
import tarfile
from io import BytesIO

import pytest
from django.conf import settings

from batches.tests.conftest import skip_or_fail
from batches.tests.support.feedserver import Reply
from batches.tests.support.postgres import create_database
from batches.tests.support.processes import MANAGE, WAIT_SECONDS, Commands, all_in_one, ended

#: The last migration of the previous version. The commit before the next one has its code.
FORMER = "0027"
PROFILES = 60


def git(*arguments):
    command = ["git", "-C", str(settings.BASE_DIR), *arguments]
    return subprocess.run(command, capture_output=True, timeout=WAIT_SECONDS)


@pytest.fixture(scope="module")
def former_code(tmp_path_factory):
    """The previous version from the history, in a separate directory."""
    number = f"{int(FORMER) + 1:04}"
    added = git("log", "--diff-filter=A", "--format=%H", "--", f"batches/migrations/{number}_*.py").stdout.split()
    archive = git("archive", f"{added[-1].decode()}^", "batches", "batchproject", "manage.py") if added else None
    if archive is None or archive.returncode:
        skip_or_fail("The history lacks the code of the previous version: this is not a clone, or a shallow one.")
    directory = tmp_path_factory.mktemp("former")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(directory, filter="data")
    return directory


class Version:
    """The commands of one version."""

    def __init__(self, commands, manage):
        self._commands, self._manage = commands, manage

    def start_worker(self):
        return self._commands.start_program(*self._manage, "batchworker")

    def run(self, *lines):
        """Runs these commands one after the other, and returns the output of all."""
        return ended(self._commands.start_program(*self._manage, *all_in_one(*lines))).out

    def run_and_list(self, *lines):
        """Run these commands, too. Returns the batches by name, in which the doctor finds nothing."""
        out = self.run(*lines, "batch doctor", "batch list --json")
        return {batch["name"]: batch for batch in json.loads(out[out.index("\n[") :])}


@pytest.fixture
def empty_database(database_url, tmp_path):
    if database_url.startswith("sqlite"):
        return f"sqlite:///{tmp_path / 'rollback.sqlite3'}"
    return create_database(database_url, "rollback")


@pytest.fixture
def versions(empty_database, former_code):
    """The previous version and this one on an empty database."""
    with Commands(empty_database) as commands:
        # No lease expires on a busy machine, and a check that hangs ends with its worker.
        own = {"BATCHES_LEASE_SECONDS": "600", "BATCHES_GRACE_SECONDS": "1"}
        commands.environ = {**commands.environ, **own}
        yield Version(commands, [sys.executable, str(former_code / "manage.py")]), Version(commands, MANAGE)


@pytest.mark.slow
@pytest.mark.exhaustive_on("postgresql")
def test_the_way_to_this_version_and_back_loses_nothing_in_the_middle_of_a_run(versions, server, tmp_path):
    former, new = versions
    server.otherwise = Reply()
    # Two requests at once for a host: with two that hang, the run stops in its middle.
    first, second = ([server.hold(f"/{number}") for number in pair] for pair in ((20, 21), (40, 41)))
    long, short = tmp_path / "long.txt", tmp_path / "short.txt"
    long.write_text("\n".join(server.url(f"/{number}") for number in range(PROFILES)))
    short.write_text(server.url("/short"))

    former.run(
        "migrate --verbosity 0",
        f"batch create {long} --name long --checker http",
        f"batch create {short} --name short --checker http",
    )
    stop_in_the_middle(former, first)
    former.run("queue hold --reason Upgrade")
    batches = new.run_and_list("migrate --verbosity 0", "queue release")
    assert (batches["long"]["status"], batches["long"]["completed_profiles"]) == ("running", 20)

    stop_in_the_middle(new, second)
    hold = "queue hold --stop-running --reason 'Back again'"
    new.run(hold, "batch doctor", f"migrate --verbosity 0 batches {FORMER}")
    batches = former.run_and_list("queue release")
    assert (batches["long"]["status"], batches["long"]["completed_profiles"]) == ("queued", 40)
    assert [batches[name]["position"] for name in ("long", "short")] == [1, 2]

    worker = former.start_worker()
    worker.wait_for(lambda: "Finished “short”" in worker.err)
    batches = former.run_and_list()
    assert {name: (it["status"], it["successful_checks"]) for name, it in batches.items()} == {
        "long": ("done", PROFILES),
        "short": ("done", 1),
    }
    hits = [server.hits(f"/{number}") for number in range(PROFILES)]
    assert hits == [2 if number in (20, 21, 40, 41) else 1 for number in range(PROFILES)]


def stop_in_the_middle(version, gates):
    """Run a worker until these requests hang; then stop it as systemd does. It records the finished checks."""
    worker = version.start_worker()
    for gate in gates:
        gate.wait_for()
    worker.popen.terminate()
    ended(worker)
    for gate in gates:
        gate.open()

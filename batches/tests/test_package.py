"""The package: the wheel in a separate environment, outside this folder."""

import os
import re
import stat
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Mapping
from configparser import ConfigParser
from contextlib import suppress
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from django.conf import settings
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import batches
from batches.tests.hosts.steps import read_step
from batches.tests.management.test_serve import press_ctrl_c
from batches.tests.support.feedserver import FeedServer
from batches.tests.support.ports import free_port
from batches.tests.support.processes import WAIT_SECONDS, Command, Commands, ended, run_python

pytestmark = pytest.mark.slow

#: A page of the admin, of the API and of the project, and files of this app and of another one.
PAGES = {
    "/admin/login/": "Batches",
    "/api/docs/": "data-schema",
    "/nothing/": "This page does not exist",
    "/static/batches/queue.js": "The queue page",
    "/static/admin/css/base.css": ":root",
}
#: Like the script that an installer writes for the entry point.
PROGRAM = "import sys; from batchproject.program import main; sys.argv[0] = 'batches'; main()"


class Installation(Commands):
    """The program in a virtual environment that has the wheel, and a user who has just installed it."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        super().__init__("")
        self.folder = folder
        self.data = folder / ".local" / "share" / "batches"
        venv.create(folder / "venv", symlinks=True)
        [packages] = (folder / "venv").glob("lib/python3*/site-packages")
        zipfile.ZipFile(wheel).extractall(packages)
        # The wheel uses the packages of the tests, but nothing from the current folder.
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        own = {"HOME": str(folder), "PATH": os.environ["PATH"], "BATCHES_ALLOWED_NETWORKS": "127.0.0.1/32"}
        self.environ = own | {name: self.environ[name] for name in ("BATCHES_PROCESSES", "BATCHES_TEST_COMMANDS")}

    def run_python(self, *arguments: str, code: int = 0) -> Command:
        command = self.start_program(str(self.folder / "venv" / "bin" / "python"), *arguments, cwd=self.folder)
        return ended(command, code)

    def start(self, *arguments: str, environ: Mapping[str, str] | None = None, **streams: Any) -> Command:
        command = [str(self.folder / "venv" / "bin" / "python"), "-P", "-c", PROGRAM, *arguments]
        return self.start_program(*command, environ=environ, cwd=self.folder, start_new_session=True, **streams)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=settings.BASE_DIR, check=True, capture_output=True, timeout=WAIT_SECONDS)
    [wheel] = folder.iterdir()
    return wheel


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"batches-{batches.__version__}.dist-info/METADATA").decode())


@pytest.fixture(scope="module")
def installation(wheel, tmp_path_factory):
    with Installation(tmp_path_factory.mktemp("user"), wheel) as installation:
        yield installation


def read_requirements(name):
    lines = (settings.BASE_DIR / name).read_text().splitlines()
    return {str(Requirement(line)) for line in lines if line and not line.startswith(("#", "-r"))}


def test_the_wheel_has_every_file_of_the_app_and_the_project_and_no_tests(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = (path for folder in ("batches", "batchproject") for path in (settings.BASE_DIR / folder).rglob("*"))
    paths = {str(path.relative_to(settings.BASE_DIR)) for path in files if path.is_file() and path.suffix != ".pyc"}
    assert names == {path for path in paths if not path.startswith("batches/tests/")}
    assert "batches/locale/de/LC_MESSAGES/django.mo" in names  # git has its source only


def test_the_package_needs_what_the_lists_say_with_any_tested_django_and_the_driver_as_an_extra(metadata):
    needed = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    of_all = {str(requirement) for requirement in needed if requirement.marker is None}
    listed = read_requirements("requirements.txt")
    assert of_all - listed == {"django<6.2,>=5.2.19"}
    assert listed - of_all == {"django<5.3,>=5.2.19", "psycopg[binary]<4,>=3.2"}
    extras = {extra: set() for extra in metadata.get_all("Provides-Extra")}
    for requirement in needed:
        for extra in extras:
            if requirement.marker and requirement.marker.evaluate({"extra": extra}):
                extras[extra].add(str(requirement).partition(";")[0])
    files = {extra: read_requirements(f"requirements-{extra}.txt") for extra in ("allauth", "apprise", "celery")}
    assert extras == {"postgres": {"psycopg[binary]<4,>=3.2"}, **files}


def test_the_version_is_defined_in_one_place(metadata, installation):
    assert metadata["Version"] == batches.__version__
    assert installation.run("--version").out == f"batches {batches.__version__}\n"
    assert "version" not in tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())["project"]


def test_the_help_says_where_the_data_are_and_stores_nothing(installation):
    assert f"The database and the secret key are in {installation.data}\n" in installation.run().out
    assert (
        "The database and the secret key are in /elsewhere\n" in installation.run("--help", DATA_DIR="/elsewhere").out
    )
    assert not installation.data.exists()


def test_a_list_is_checked_right_after_the_installation(installation):
    """By two commands at the same time, of which one creates the tables and the other waits for them."""
    database = installation.data / "batches.sqlite3"
    with FeedServer() as server:
        server.answer_feed("/feed", "A story")
        (installation.folder / "list.txt").write_text(f"{server.url('/feed')}\n")
        commands = [installation.start("run", "list.txt", "--count-first"), installation.start("batch", "list")]
        assert [command.wait() for command in commands] == [0, 0], [command.describe() for command in commands]
    assert "A story" in commands[0].out
    assert sum(command.err.count(f"Created the database {database}\n") for command in commands) == 1
    assert [stat.S_IMODE(path.stat().st_mode) for path in (installation.data, database)] == [0o700, 0o600]
    assert "secret_key" in os.listdir(installation.data)
    assert installation.run("check").out == "System check identified no issues (0 silenced).\n"


def test_the_short_form_of_batch_run_works_in_a_clone_too():
    assert "usage: manage.py batch run " in run_python("manage.py", "run", "--help").stdout


def test_messages_name_the_program(installation):
    assert "Show the lists: batches list show" in installation.run("list", "show", "nothing", code=1).err
    outdated = installation.run("batch", "list", code=1, DATABASE_URL=f"sqlite:///{installation.folder}/old.sqlite3")
    assert outdated.err == "CommandError: The database is not up to date. Run: batches migrate\n"


def test_postgresql_without_its_driver_gets_one_sentence(installation):
    (installation.folder / "sitecustomize.py").write_text("import sys; sys.modules['psycopg'] = None")
    environ = {"DATABASE_URL": "postgres://localhost/batches", "PYTHONPATH": str(installation.folder)}
    sentence = 'PostgreSQL needs the package psycopg. Run: python -m pip install "batches[postgres]"'
    assert sentence in installation.run("check", code=1, **environ).err
    marker = installation.folder / "venv" / "pipx_metadata.json"
    marker.touch()
    assert 'Run: pipx runpip batches install "batches[postgres]"' in installation.run("check", code=1, **environ).err
    marker.unlink()


def test_pages_and_static_files_come_from_the_wheel(installation):
    port = free_port()
    site = installation.start("serve", "--port", port)
    site.wait_for(lambda: "Serving on" in site.out)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_SECONDS) as visitor:
        for path, content in PAGES.items():
            assert content in visitor.get(path).text, path
        assert "Diese Seite gibt es nicht" in visitor.get("/nothing/", headers={"Accept-Language": "de"}).text
    press_ctrl_c(site)
    ended(site)


def test_a_new_project_takes_the_app_from_the_package(installation):
    """With the steps of the guide, the only ones."""
    installation.run_python("-m", "django", "startproject", "shop")
    for name in ("settings.py", "urls.py"):
        with (installation.folder / "shop" / "shop" / name).open("a") as file:
            file.write(read_step(name))
    manage = str(installation.folder / "shop" / "manage.py")
    assert "WARNINGS" not in installation.run_python(manage, "check", "--fail-level", "ERROR").out
    assert "Run: python manage.py migrate" in installation.run_python(manage, "list", "show", code=1).err


# -- The lock ----------------------------------------------------------------------------------------------------------

LISTS = ("requirements.txt", "requirements-celery.txt", "requirements-apprise.txt", "requirements-allauth.txt")
ENTRY = re.compile(r"([a-z0-9-]+)==(\S+) +(?:; .+? +)?((?:--hash=sha256:[0-9a-f]{64} *)+)")


@pytest.fixture(scope="module")
def locked():
    """The version of each package in the lock."""
    text = (settings.BASE_DIR / "requirements.lock").read_text().replace("\\\n", " ")
    entries = {line: ENTRY.fullmatch(line) for line in text.splitlines() if line and not line.startswith("#")}
    assert all(entries.values()), [line for line, match in entries.items() if match is None]
    return {match[1]: match[2] for match in entries.values()}


def test_the_lock_has_a_version_with_hashes_for_everything_that_the_lists_and_their_packages_need(locked):
    for name in LISTS:
        assert_satisfied(map(Requirement, read_requirements(name)), locked)
    for name, version in locked.items():
        with suppress(PackageNotFoundError):  # it is for another system, or of an extra that is not installed here
            found = distribution(name)
            needed = map(Requirement, found.requires or ()) if found.version == version else ()
            assert_satisfied((it for it in needed if it.marker is None or it.marker.evaluate({"extra": ""})), locked)


def assert_satisfied(needed, locked):
    for requirement in needed:
        version = locked.get(canonicalize_name(requirement.name), "0")
        assert requirement.specifier.contains(version, prereleases=True), (
            f"Run `make lock`: {requirement} is not in it."
        )


def test_celery_starts_with_each_broker_with_what_is_in_the_lock(locked):
    owners = packages_distributions().items()
    others = sorted(name for name, of in owners if not {canonicalize_name(it) for it in of} & locked.keys())
    hidden = f"import sys; sys.modules.update(dict.fromkeys({others}))"
    done = run_python("-c", f"{hidden}; import celery.apps.worker, kombu.transport.pyamqp, kombu.transport.redis")
    assert done.returncode == 0, done.stderr


# -- The matrix --------------------------------------------------------------------------------------------------------


def test_tox_the_workflow_and_the_package_name_the_same_versions(metadata):
    tox = ConfigParser()
    tox.read(settings.BASE_DIR / "tox.ini")
    workflow = yaml.safe_load((settings.BASE_DIR / ".github" / "workflows" / "tests.yml").read_text())
    matrix = workflow["jobs"]["matrix"]["strategy"]["matrix"]
    pairs = [(python, django) for python in matrix["python"] for django in matrix["django"]]
    excluded = [(it["python"], it["django"]) for it in matrix["exclude"]]
    names = {
        f"py{python}-django{django}".replace(".", "") for python, django in pairs if (python, django) not in excluded
    }
    assert set(tox["tox"]["env_list"].split()) == names
    classifiers = set(metadata.get_all("Classifier"))
    assert {f"Programming Language :: Python :: {python}" for python in matrix["python"]} <= classifiers
    assert {f"Framework :: Django :: {django}" for django in matrix["django"]} <= classifiers

"""The code on the pages: blocks can be read, commands have their options, and the how-tos are done line by line."""

import json
import re
import shlex
import subprocess
import tomllib
from argparse import ArgumentParser
from contextlib import contextmanager
from threading import Thread

import pytest
import yaml
from django.core.management import CommandError, get_commands, load_command_class

from batches.conf import config_from_environment
from batches.demo.profiles import PATH
from batches.demo.server import FeedServer
from batches.models import Batch, Subscription
from batches.tests.support.documents import DOCS, ROOT, find_blocks, find_pages
from batches.tests.support.terminal import manage

__all__ = ["manage"]

KINDS = ("rss", "atom", "json", "page", "missing")

PAGES = {str(page.relative_to(ROOT)): page.read_text() for page in find_pages()}
#: In a clone, in somebody's own project, and as a package.
OURS = re.compile(r"^(?:\S+=\S+ )*(?:(?:\.venv/bin/)?python manage\.py|batches) (.+)$")


def require_shell(text):
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


READERS = {
    "json": json.loads,
    "python": lambda text: compile(text, "a page", "exec"),
    "yaml": yaml.safe_load,
    "toml": tomllib.loads,
    "sh": require_shell,
}


@pytest.mark.parametrize("page", PAGES)
def test_each_block_of_code_can_be_read(page):
    for block in find_blocks(PAGES[page], *READERS):
        READERS[block.language](block.text)


def lines_of(text):
    """The commands of a shell block; a comment is none."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line for line in joined.splitlines() if line and not line.startswith("#")]


def parser_of(name):
    app = get_commands()[name]
    command = load_command_class(app, name) if isinstance(app, str) else app
    command._called_from_command_line = False  # CommandError instead of the end of the process
    return command.create_parser("batches", name)


@pytest.mark.parametrize("page", PAGES)
def test_each_command_on_the_page_exists_and_has_its_options(page, settings):
    settings.BATCHES = {"CHECKERS": {"long": "batches.checking.checkers.http.HttpChecker"}}
    for block in find_blocks(PAGES[page], "sh"):
        for line in lines_of(block.text):
            if found := OURS.match(line.partition(" | ")[0].partition(" >")[0]):
                assert_accepted(shlex.split(found[1], comments=True))


def assert_accepted(words):
    """Placeholders such as FILE are values."""
    if words[0] == "run":
        words = ["batch", *words]
    parser: ArgumentParser = parser_of(words[0])
    try:
        parser.parse_args(words[1:])
    except CommandError as error:
        pytest.fail(f"{shlex.join(words)}: {error}")


class Reader:
    """Types the lines of a how-to: `batches …` in the process of the test, all others in bash."""

    def __init__(self, folder, manage, settings):
        self._folder, self._manage, self._settings = folder, manage, settings

    def type(self, line):
        if line.startswith("export "):
            self._export(dict(word.split("=", 1) for word in shlex.split(line)[1:]))
        elif found := OURS.match(line):
            self._call(shlex.split(found[1], comments=True))
        else:
            subprocess.run(["bash", "-euc", line], cwd=self._folder, check=True)

    def _export(self, variables):
        self._settings.BATCHES = self._settings.BATCHES | config_from_environment(variables)

    def _call(self, words):
        words = ["batch", *words] if words[0] == "run" else words
        known = {"ID": str(latest(Subscription if words[1] in OF_SUBSCRIPTIONS else Batch).pk)} if "ID" in words else {}
        done = self._manage(*(known.get(word, word) for word in words))
        assert done.code == 0, f"{shlex.join(words)}: {done.err}"


OF_SUBSCRIPTIONS = {"test-message", "change-subscription", "unsubscribe"}


def latest(model):
    return model.objects.order_by("created_at").last()


@pytest.fixture
def demo(settings):
    """The host of the feeds of the demo, which has another port on the pages."""
    settings.BATCHES = {"ALLOWED_NETWORKS": ["127.0.0.0/8"], "PROCESSES": 1, "POLL_SECONDS": 0.01}
    with FeedServer(0, pace=0) as server, running(server):
        yield f"127.0.0.1:{server.server_port}"


@contextmanager
def running(server):
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def blocks_to_run(how_to):
    blocks = find_blocks((DOCS / "how-to" / f"{how_to}.md").read_text(), "sh", "python")
    return [block for block in blocks if not block.not_run]


def has_commands(how_to):
    return any(block.language == "sh" for block in blocks_to_run(how_to))


HOW_TOS = list(filter(has_commands, sorted(page.stem for page in (DOCS / "how-to").glob("*.md"))))

#: The list of the tutorial.
PRESS = "".join(f"http://127.0.0.1:8089{PATH}{kind}/{number}\n" for number, kind in enumerate(KINDS, start=1))


@pytest.fixture
def folder(tmp_path, monkeypatch, demo):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "press.txt").write_text(PRESS.replace("127.0.0.1:8089", demo))
    (tmp_path / "more.txt").write_text(f"http://{demo}{PATH}rss/99\n")
    return tmp_path


@pytest.mark.django_db(transaction=True)
@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("name", HOW_TOS)
def test_each_line_of_the_how_to_works(name, folder, demo, manage, settings):
    reader = Reader(folder, manage, settings)
    for line in BEFORE.get(name, ["batches list create Press press.txt"]):
        reader.type(line)
    for block in blocks_to_run(name):
        if block.language == "python":
            store(folder, block.text)
        else:
            for line in lines_of(block.text.replace("127.0.0.1:8089", demo)):
                reader.type(line)


#: What a how-to assumes beside the list of the tutorial.
BEFORE = {
    "lists": [],
    "retry": ["batches run press.txt"],
    "hold": ["batches batch create press.txt"],
}


def store(folder, text):
    """A module that begins with its name, `# mysite/checkers.py`."""
    if found := re.match(r"# (\w+)/(\w+\.py)\n", text):
        (folder / found[1]).mkdir()
        (folder / found[1] / found[2]).write_text(text)

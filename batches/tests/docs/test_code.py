"""The code on the pages: blocks can be parsed, commands have their options, and the how-tos run line by line."""

import json
import re
import shlex
import subprocess
import tomllib
from argparse import ArgumentParser

import pytest
import yaml
from django.core.management import CommandError, get_commands, load_command_class

from batches.conf import config_from_environment
from batches.demo.profiles import PATH
from batches.models import Batch, Queue, Subscription
from batches.tests.support.documents import ROOT, find_blocks, find_pages
from batches.tests.support.working import nothing_left, work

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
    blocks = list(find_blocks(PAGES[page]))
    assert PAGES[page].count("```") == 2 * len(blocks)
    assert PAGES[page].count("<!-- not run: ") == len([block for block in blocks if block.not_run])
    for block in blocks:
        READERS.get(block.language, str)(block.text)


def lines_of(text):
    """The commands of a shell block, without comments."""
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
        """Returns what it prints. A reader is slow: the worker has finished before the next line."""
        if not (nothing_left() or Queue.objects.filter(held=True).exists()):
            work()
        if line.startswith("export "):
            variables = dict(word.split("=", 1) for word in shlex.split(line)[1:])
            self._settings.BATCHES = self._settings.BATCHES | config_from_environment(variables)
        elif found := OURS.match(line):
            return self._call(shlex.split(found[1], comments=True))
        elif not line.startswith("sleep "):
            subprocess.run(["bash", "-euc", line], cwd=self._folder, check=True)
        return ""

    def _call(self, words):
        words = ["batch", *words] if words[0] == "run" else words
        known = {"ID": str(latest(Subscription if words[1] in OF_SUBSCRIPTIONS else Batch).pk)} if "ID" in words else {}
        done = self._manage(*(known.get(word, word) for word in words))
        assert done.code == 0, f"{shlex.join(words)}: {done.err}"
        return done.out + done.err


OF_SUBSCRIPTIONS = {"test-message", "change-subscription", "unsubscribe"}


def latest(model):
    return model.objects.order_by("created_at").last()


def blocks_to_run(name):
    blocks = find_blocks(PAGES[name], "sh", "output", "python")
    return [block for block in blocks if not block.not_run]


def has_code(name):
    return any(block.language != "output" for block in blocks_to_run(name))


GUIDES = ["README.md", "docs/tutorial/index.md", *(name for name in PAGES if name.startswith("docs/how-to/"))]

#: The list of the tutorial.
PAPERS = "".join(f"http://127.0.0.1:8089{PATH}{kind}/{number}\n" for number, kind in enumerate(KINDS, start=1001))


@pytest.fixture
def folder(tmp_path, monkeypatch, demo, settings):
    settings.BATCHES = {"ALLOWED_NETWORKS": ["127.0.0.0/8"], "PROCESSES": 1, "POLL_SECONDS": 0.01}
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "papers.txt").write_text(PAPERS.replace("127.0.0.1:8089", demo))
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "profiles.opml").write_text(f'<opml><outline xmlUrl="http://{demo}{PATH}rss/1"/></opml>')
    (tmp_path / "more.txt").write_text(f"http://{demo}{PATH}rss/1099\n")
    return tmp_path


#: The commands that a page assumes: the tutorial creates the list, and others continue from there.
BEFORE = {
    "docs/tutorial/index.md": [],
    "docs/how-to/lists.md": [],
    "docs/how-to/retry.md": ["batches run papers.txt"],
    "docs/how-to/hold.md": ["batches batch create papers.txt"],
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("name", [*filter(has_code, GUIDES)])
def test_each_line_of_the_guide_works(name, folder, demo, manage, settings):
    reader = Reader(folder, manage, settings)
    for line in BEFORE.get(name, ["batches list create Papers papers.txt"]):
        reader.type(line)
    printed = ""
    for block in blocks_to_run(name):
        text = block.text.replace("127.0.0.1:8089", demo)
        if block.language == "sh":
            printed = "".join(map(reader.type, lines_of(text)))
        elif block.language == "output":
            assert re.fullmatch(pattern_of(text), printed.rstrip(), re.DOTALL), printed
        else:
            store_or_run(folder, text)


def pattern_of(output):
    """`…` on the page stands for anything."""
    return ".*".join(re.escape(part) for part in output.rstrip().split("…"))


def store_or_run(folder, text):
    """Stores a module that begins with its path, `# mysite/checkers.py`, in the folder, and runs other code."""
    if found := re.match(r"# (\S+\.py)\n", text):
        path = folder / found[1].removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    else:
        exec(text, {})

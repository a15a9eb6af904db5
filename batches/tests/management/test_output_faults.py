"""An output that is closed, full, left early or without letters beyond ASCII: no traceback, and nothing done twice."""

import os

import pytest
from django.conf import global_settings
from django.contrib.auth.models import User

from batches.models import Batch, Queue
from batches.models.api import AccessToken
from batches.tests.support.factories import make_batch
from batches.tests.support.processes import MANAGE

pytestmark = [pytest.mark.slow, pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

FULL = (
    "CommandError: Cannot write the output: No space left on device. See what was done before you repeat the command.\n"
)
CLOSED = "CommandError: Cannot write the output: not writable. See what was done before you repeat the command.\n"
UNREAD = "CommandError: The output is closed, so the secret would be lost. Nothing was created.\n"

#: How a shell closes, fills or leaves the output of a command: the exit status and the text for stderr.
FAULTS = {">&-": (1, CLOSED), ">/dev/full": (1, FULL), "left": (0, "")}


@pytest.fixture
def run(commands):
    """Runs a command with a faulty output and returns its exit status and what it wrote to stderr."""

    def run_command(fault, *arguments):
        reading, writing = os.pipe()
        os.close(reading)
        redirect = f'exec "$@" {"" if fault == "left" else fault}'
        command = commands.start_program("sh", "-c", redirect, "sh", *MANAGE, *arguments, stdout=writing)
        os.close(writing)
        return command.wait(), command.err

    return run_command


#: Commands that read, change and create, and what they leave behind.
DONE_ONCE = {
    "batch list": lambda: True,
    "batch list --json": lambda: True,
    "queue hold": lambda: Queue.objects.get().held,
    "batch create": lambda: Batch.objects.filter(name="morning").exists(),
}
#: Commands that show something only once, and what they create.
SHOWN_ONCE = {"demo": User, "token create ada": AccessToken}


def each_with(faults):
    """Every command with every fault. `make test` tries each command with one fault only."""
    return [
        pytest.param(command, fault, marks=[] if fault == tried else pytest.mark.exhaustive)
        for command, tried in faults.items()
        for fault in FAULTS
    ]


@pytest.mark.parametrize(
    ("command", "fault"),
    each_with({"batch list": "left", "batch list --json": ">/dev/full", "queue hold": ">&-", "batch create": ">&-"}),
)
def test_the_work_is_done_once_and_the_sentence_says_what_happened(command, fault, run, list_file):
    make_batch("it")
    arguments = [str(list_file())] if command == "batch create" else []
    assert run(fault, *command.split(), *arguments) == FAULTS[fault]
    # A batch is not created if that can be known before.
    assert DONE_ONCE[command]() is (command != "batch create" or fault == "left")


@pytest.mark.parametrize(("command", "fault"), each_with({"demo": ">/dev/full", "token create ada": "left"}))
def test_secrets_are_not_created_if_they_cannot_be_shown(command, fault, run):
    if command != "demo":  # which does nothing where there are users
        User.objects.create_user("ada")
    assert run(fault, *command.split()) == (1, {"left": UNREAD}.get(fault, FAULTS[fault][1]))
    assert not SHOWN_ONCE[command].objects.exists()


def test_an_output_without_letters_beyond_ascii_shows_the_password_of_the_demo(commands, settings):
    settings.PASSWORD_HASHERS = global_settings.PASSWORD_HASHERS
    commands.environ |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict"}
    demo = commands.start("demo")
    assert (demo.wait(), demo.err) == (0, "")
    password = demo.out.partition("Password   ")[2].split()[0]
    assert User.objects.get().check_password(password)

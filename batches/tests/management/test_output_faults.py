"""An output that is closed, full or left early: no traceback, and nothing done twice."""

import os

import pytest
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


@pytest.mark.parametrize(
    ("command", "fault", "is_done"),
    [
        ("batch list", "left", lambda: True),
        ("batch list --json", ">/dev/full", lambda: True),
        ("queue hold", ">&-", lambda: Queue.objects.get().held),
        ("batch create {}", ">/dev/full", lambda: not Batch.objects.filter(name="morning").exists()),  # known before
        ("batch create {}", "left", lambda: Batch.objects.filter(name="morning").exists()),
    ],
)
def test_the_work_is_done_once_and_the_sentence_says_what_happened(command, fault, is_done, run, list_file):
    make_batch("it")
    assert run(fault, *command.format(list_file()).split()) == FAULTS[fault]
    assert is_done()


@pytest.mark.parametrize(
    ("command", "fault", "answer"),
    [
        ("help", "left", (0, "")),
        ("inspectdb", "left", (0, "")),  # it fills the buffer
        ("showmigrations", ">/dev/full", (1, "Cannot write the output: No space left on device.\n")),
    ],
)
def test_commands_of_django_end_without_a_traceback(command, fault, answer, run):
    assert run(fault, command) == answer


@pytest.mark.parametrize(("command", "fault"), [("demo", ">/dev/full"), ("token create ada", "left")])
def test_secrets_are_not_created_if_they_cannot_be_shown(command, fault, run):
    if command != "demo":  # which does nothing where there are users
        User.objects.create_user("ada")
    assert run(fault, *command.split()) == (1, UNREAD if fault == "left" else FULL)
    assert not (User if command == "demo" else AccessToken).objects.exists()

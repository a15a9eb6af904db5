"""Fixtures and functions of tests that run a worker, in the test's process or in its own."""

import pytest

from batches.checking.worker import Worker
from batches.models import Batch

from .checkers import NAMES, OK, Scripted
from .feedserver import FeedServer
from .processes import Commands


@pytest.fixture
def configure(settings):
    """Sets keys of `BATCHES`, which has the checkers for tests and short waits."""
    settings.BATCHES = {"CHECKERS": NAMES, "POLL_SECONDS": 0.01, "RECORD_SECONDS": 0.01, "CHECK_TIMEOUT": 60.0}

    def set_keys(**values):
        settings.BATCHES = settings.BATCHES | {name.upper(): value for name, value in values.items()}

    return set_keys


@pytest.fixture
def script(configure, monkeypatch):
    """Sets the script of the checker "scripted" and returns the growing list of checked addresses.

    The script takes the profile and returns the result, or None for an ok one. Without a script, all results are ok.
    """
    checked = []

    def set_script(function=None):
        async def check(profile):
            checked.append(profile.url)
            return (await function(profile) if function else None) or OK

        monkeypatch.setattr(Scripted, "script", staticmethod(check), raising=False)
        return checked

    set_script()
    return set_script


@pytest.fixture
def commands(database_url, transactional_db):
    """Starts `manage.py` commands on the test's database."""
    with Commands(database_url) as commands:
        yield commands


@pytest.fixture
def server():
    with FeedServer() as server:
        yield server


def work():
    """Run a worker until no batch is running or queued."""
    worker = Worker(finished=nothing_left)
    worker.work()
    return worker


def nothing_left():
    return not Batch.objects.exclude(position=None).exists()

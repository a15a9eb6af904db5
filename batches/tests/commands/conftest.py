import io
import sys
from typing import NamedTuple

import pytest
from django.core.management import CommandError, call_command

from batches.tests.working import commands, configure, script, server

__all__ = ["Answer", "commands", "configure", "manage", "script", "server"]


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def manage(capsys, monkeypatch):
    """Runs `manage.py …` in this process; its exit code, and what it wrote."""

    def run(*arguments, stdin=None, stdout=None):
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", stdin or io.TextIOWrapper(io.BytesIO()))
            patch.setattr(sys, "stdout", stdout or sys.stdout)
            try:
                call_command(*map(str, arguments))
                code, message = 0, ""
            except CommandError as error:
                code, message = error.returncode, str(error)
            except SystemExit as exit:
                code, message = exit.code, ""
        out, err = capsys.readouterr()
        return Answer(code, out, err + message)

    return run

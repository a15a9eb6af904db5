"""`manage.py …` in the process of the test."""

import io
import sys
from typing import NamedTuple

import pytest
from django.core.management import CommandError, call_command


class Terminal(io.StringIO):
    """Standard input of a person who has typed this, or the screen."""

    def isatty(self):
        return True


class Output(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def manage(capsys, monkeypatch):
    """Runs `manage.py …` and returns its exit status and output."""

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
        return Output(code, out, err + message)

    return run

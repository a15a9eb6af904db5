"""The settings from the environment, the files that they create, and the format of log lines."""

import logging
import stat
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from batches.tests.support.processes import run_python
from batchproject.environment import read_number
from batchproject.logs import LineFormatter
from batchproject.private_files import create_private_file


@pytest.mark.parametrize("text", ["many", "-1", "1e3", "1.0"])
def test_an_invalid_number_is_refused(monkeypatch, text):
    monkeypatch.setenv("HSTS_SECONDS", text)
    with pytest.raises(ImproperlyConfigured, match=r"HSTS_SECONDS=.* is not a valid number"):
        read_number("HSTS_SECONDS", 0)


PRINT = "from django.conf import settings as it; print(it.TIME_ZONE, it.LOGGING['loggers']['batches']['level'])"


@pytest.mark.parametrize(
    ("variables", "printed"),
    [
        ({}, "UTC INFO"),
        ({"LOG_LEVEL": "debug", "TIME_ZONE": "Europe/Berlin"}, "Europe/Berlin DEBUG"),
        ({"HTTPS": " No ", "DEBUG": ""}, "UTC INFO"),
        ({"HTTPS": "enabled"}, "HTTPS='enabled' is not a valid switch. Use one of 1, true, yes, on, 0, false,"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL='loud' is not a valid log level. Use one of DEBUG, INFO, WARNING,"),
        ({"TIME_ZONE": "Nowhere"}, "TIME_ZONE='Nowhere' is not a known time zone. Use UTC, or a name like"),
        ({"TIME_ZONE": "../../etc/passwd"}, "TIME_ZONE='../../etc/passwd' is not a known time zone."),
        ({"TIME_ZONE": "Europe"}, "TIME_ZONE='Europe' is not a known time zone."),
    ],
)
def test_an_invalid_variable_ends_with_a_sentence(variables, printed):
    result = run_python("manage.py", "shell", "--no-imports", "-v0", "-c", PRINT, **variables)
    assert printed in (result.stderr if result.returncode else result.stdout)
    assert result.returncode == (1 if " is not " in printed else 0)
    assert "Traceback" not in result.stderr


def test_the_database_can_be_read_by_its_owner_only_and_an_existing_one_stays_as_it_is(tmp_path):
    path = create_private_file(tmp_path / "var" / "batches.sqlite3")
    assert [stat.S_IMODE(it.stat().st_mode) for it in (path.parent, path)] == [0o700, 0o600]
    path.write_bytes(b"rows")
    path.chmod(0o640)
    assert create_private_file(path).read_bytes() == b"rows"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_without_a_place_for_the_database_a_sentence_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ImproperlyConfigured, match="Set the environment variable DATABASE_URL"):
        create_private_file(tmp_path / "file" / "batches.sqlite3")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Größe 🎉", "Größe 🎉"),
        ("a\r\n2026-01-01 00:00:00 INFO forged", r"a\r\n2026-01-01 00:00:00 INFO forged"),
        ("\x1b[2Jgone\x9b1A\x07", r"\x1b[2Jgone\x9b1A\x07"),
        ("\u202egnp.exe\u200b\u2028", r"\u202egnp.exe\u200b\u2028"),
        ("\ud800", r"\ud800"),
    ],
)
def test_a_log_message_is_one_line_without_control_characters(text, line):
    formatter = LineFormatter("{levelname} {message}", style="{")
    record = logging.LogRecord("batches", logging.INFO, "file", 1, "%s", (text,), None)
    assert formatter.format(record) == f"INFO {line}"


def test_no_line_of_a_traceback_looks_like_a_log_line():
    try:
        raise ArithmeticError("\x1b[2J\n2026-01-01 00:00:00 INFO forged")
    except ArithmeticError:
        record = logging.LogRecord("batches", logging.ERROR, "file", 1, "A fault", (), sys.exc_info())
    first, second, *_, escaped, forged = LineFormatter("%(message)s").format(record).split("\n")
    assert (first, second) == ("A fault", "  Traceback (most recent call last):")
    assert (escaped, forged) == (r"  ArithmeticError: \x1b[2J", "  2026-01-01 00:00:00 INFO forged")

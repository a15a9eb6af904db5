"""A command starts without importing the admin, the API and the HTTP client, which takes longer than most commands, and
ends without collecting garbage among the imported objects.
"""

import sys

import pytest

from batches.limits import GARBAGE_THRESHOLDS

pytestmark = [pytest.mark.slow, pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

START = """
import atexit, gc, sys, manage
atexit.register(lambda: print(gc.get_threshold(), gc.get_freeze_count() > 0))
sys.argv[1:] = {arguments}
manage.main()
print(sorted({unneeded} & set(sys.modules)))
"""
#: A shell that starts the tests in the background lets them ignore Ctrl-C.
INTERRUPTED = """
from signal import SIGINT, default_int_handler, raise_signal, signal
signal(SIGINT, default_int_handler)
raise_signal(SIGINT)
"""
UNNEEDED = {"batches.admin", "batches.api.urls", "rest_framework.views", "batchproject.urls", "django_filters"}
UNNEEDED |= {"batches.checking.checkers.client", "pycurl", "aiodns"}


@pytest.mark.parametrize("arguments", [["queue", "show"], ["batch", "list"], ["queue", "hold"], ["batch", "doctor"]])
def test_a_command_starts_without_what_it_does_not_need(arguments, commands):
    command = commands.start_program(sys.executable, "-c", START.format(arguments=arguments, unneeded=UNNEEDED))
    assert command.wait() == 0, command.err
    assert command.out.splitlines()[-2:] == ["[]", f"{GARBAGE_THRESHOLDS} True"]


def test_a_command_still_says_what_is_wrong_with_the_settings(commands):
    command = commands.start("queue", "show", environ={"BATCHES_PER_HOST": "0"})
    assert command.wait() == 1
    assert "BATCHES['PER_HOST'] is 0. Use a whole number > 0, at most 1,000,000,000." in command.err


def test_ctrl_c_while_a_command_starts_leaves_no_traceback(commands, tmp_path):
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    environ = {"PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "interrupted"}
    command = commands.start("migrate", environ=environ)
    assert (command.wait(), command.err) == (130, "Stopped.\n")

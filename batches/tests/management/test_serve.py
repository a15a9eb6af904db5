"""`manage.py serve` and its supervisor, as real processes: all come up together and nothing is left running."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from shutil import copyfile
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from django.conf import settings

from batches.management.preflight import port_number

MANAGE = [sys.executable, str(settings.BASE_DIR / "manage.py")]


class Process:
    """A started program whose lines are read until one says what was waited for."""

    def __init__(self, command, environ):
        # A group of its own, as a terminal gives it: Ctrl-C goes to the whole group.
        self.popen = subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
        )
        self.lines = []

    def read_until(self, text):
        for line in self.popen.stdout:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return
        pytest.fail(f"{text!r} was not said:\n" + "\n".join(self.lines))

    def ended(self):
        """Its exit code, after its last line."""
        self.lines += self.popen.stdout.read().splitlines()
        return self.popen.wait(10)

    def press_ctrl_c(self):
        os.killpg(self.popen.pid, signal.SIGINT)

    @property
    def said(self):
        return "\n".join(self.lines)

    @property
    def children(self):
        """Process ids by name."""
        return {name: int(pid) for name, pid in re.findall(r"(\w+) *\| started as process (\d+)", self.said)}


@contextmanager
def started(command, environ):
    process = Process(command, environ)
    try:
        yield process
    finally:
        process.popen.kill()
        process.popen.wait()
        for pid in process.children.values():
            if is_running(pid):
                os.killpg(pid, signal.SIGKILL)
        process.popen.stdout.close()


def is_running(pid):
    try:
        os.kill(pid, 0)
        # An orphan waits as a zombie until the machine's first process takes note of it.
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()


def assert_gone(pids, timeout=10.0):
    deadline = time.monotonic() + timeout
    while alive := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < deadline, f"Left running: {alive}"
        time.sleep(0.02)


# -- manage.py serve ---------------------------------------------------------------------------------------------------


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    path = tmp_path_factory.mktemp("serve") / "migrated.sqlite3"
    environ = os.environ | {"DATABASE_URL": f"sqlite:///{path}"}
    subprocess.run([*MANAGE, "migrate", "--verbosity=0"], env=environ, check=True)
    return path


@pytest.fixture
def environ(migrated, tmp_path):
    """Of an installation with a migrated database of its own, and with free ports."""
    copyfile(migrated, tmp_path / "db.sqlite3")
    own = {"DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}", "PORT": str(free_port())}
    return os.environ | own | {"DEMO_PORT": str(free_port())}


def serve(environ, *options):
    return started([*MANAGE, "serve", *options], environ)


def get(environ, path):
    with urlopen(f"http://127.0.0.1:{environ['PORT']}{path}", timeout=10) as response:
        return response.status, response.read().decode()


def test_web_worker_and_demo_come_up_together_and_ctrl_c_ends_them_all(environ):
    with serve(environ, "--demo") as process:
        process.read_until("Serving on")
        assert process.children.keys() == {"demo", "web", "worker"}
        status, page = get(environ, "/admin/login/")
        assert status == 200
        assert "csrfmiddlewaretoken" in page
        process.press_ctrl_c()
        assert process.ended() == 0
        assert_gone(process.children.values())
    assert f"Admin: http://127.0.0.1:{environ['PORT']}/admin/" in process.lines
    assert process.lines[-1] == "Stopped."
    with pytest.raises(URLError):
        get(environ, "/admin/login/")


def test_the_demo_queue_is_checked_while_it_is_served(environ):
    with serve(environ, "--demo") as process:
        process.read_until("Serving on")
        assert "Demo queue created: 3 batches, 300 profiles" in process.said
        wait_for_results(environ)
        process.popen.terminate()
        assert process.ended() == 0
    with serve(environ, "--demo") as again:
        again.read_until("Stop with Ctrl-C.")
        assert "Password" not in again.said
        assert "Demo queue created" not in again.said


def wait_for_results(environ):
    """Until a first profile of the demo was checked with success."""
    deadline = time.monotonic() + 20
    with closing(sqlite3.connect(environ["DATABASE_URL"].removeprefix("sqlite:///"))) as database:
        while not database.execute("SELECT 1 FROM batches_batchprofile WHERE status = 'ok'").fetchone():
            assert time.monotonic() < deadline, "The demo's profiles are not checked."
            time.sleep(0.05)


def test_kill_9_of_serve_leaves_no_child(environ):
    with serve(environ, "--demo") as process:
        process.read_until("Serving on")
        process.popen.kill()
        assert_gone(process.children.values())


def test_a_child_that_dies_ends_the_others_and_is_named(environ):
    with serve(environ) as process:
        process.read_until("Serving on")
        os.kill(process.children["worker"], signal.SIGKILL)
        assert process.ended() == 1
        assert_gone(process.children.values())
    assert process.lines[-1] == "CommandError: worker ended unexpectedly (SIGKILL). All processes were stopped."


def test_without_the_demo_neither_account_nor_queue_nor_feed_server_is_made(environ):
    with serve(environ) as process:
        process.read_until("worker | started")
        assert process.children.keys() == {"web", "worker"}
        assert process.lines[:2] == [f"Admin: http://127.0.0.1:{environ['PORT']}/admin/", "Stop with Ctrl-C."]


def test_with_https_what_the_proxy_says_is_believed_and_plain_http_is_redirected(environ):
    with serve(environ | {"HTTPS": "on"}) as process:
        process.read_until("Serving on")
        assert answer(environ, {"X-Forwarded-Proto": "https"}).status == 200
        plain = answer(environ, {})
        assert (plain.status, plain.headers["Location"].partition(":")[0]) == (301, "https")


def answer(environ, headers):
    """The login page as the proxy gets it: a redirect is not followed."""
    connection = HTTPConnection("127.0.0.1", int(environ["PORT"]), timeout=10)
    with closing(connection):
        connection.request("GET", "/admin/login/", headers=headers)
        response = connection.getresponse()
        response.read()
        return response


@pytest.mark.parametrize(
    ("variable", "options", "sentence"),
    [
        ("PORT", [], "CommandError: Port {port} is in use. Choose another one: PORT={next} make run"),
        (
            "DEMO_PORT",
            ["--demo"],
            "CommandError: Port {port} is in use. Choose another one for the demo: DEMO_PORT={next} make run",
        ),
    ],
)
def test_a_port_in_use_gets_one_sentence_and_nothing_is_started(variable, options, sentence, environ):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with serve(environ | {variable: str(port)}, *options) as process:
            assert process.ended() == 1
    assert process.lines[-1] == sentence.format(port=port, next=port + 1)
    assert process.children == {}


def test_a_demo_whose_port_was_taken_meanwhile_says_how_to_go_on_without_it(environ):
    subprocess.run([*MANAGE, "demo"], env=environ, check=True, capture_output=True)
    port = int(environ["DEMO_PORT"])
    with (
        socket.create_server(("127.0.0.1", port)),
        serve(environ | {"DEMO_PORT": str(free_port())}, "--demo") as process,
    ):
        assert process.ended() == 1
    assert re.fullmatch(rf"CommandError: Port {port} is in use\. .* manage\.py serve", process.said)


@pytest.mark.parametrize("port", ["0", "65536", "x", "", "-1", "８０"])
def test_a_port_that_cannot_be_one_is_refused(port):
    with pytest.raises(ArgumentTypeError, match="is not a valid port number"):
        port_number(port)


def test_the_refused_port_is_named(environ):
    with serve(environ | {"PORT": "x"}) as process:
        assert process.ended() == 2
    assert process.lines[-1].endswith("argument --port: 'x' is not a valid port number (1 to 65535).")


def test_a_database_without_its_tables_gets_one_sentence(environ, tmp_path):
    with serve(environ | {"DATABASE_URL": f"sqlite:///{tmp_path / 'new.sqlite3'}"}) as process:
        assert process.ended() == 1
    assert process.lines == ["CommandError: The database is not up to date. Run: .venv/bin/python manage.py migrate"]


def test_a_database_out_of_reach_gets_one_sentence(environ):
    with serve(environ | {"DATABASE_URL": "sqlite:////nowhere/db.sqlite3"}) as process:
        assert process.ended() == 1
    assert process.lines == ["CommandError: Cannot connect to the database: unable to open database file"]


# -- The supervisor, with small programs of which each does one thing --------------------------------------------------

PROGRAM = """
import os, sys
from batches.management.supervisor import Child, supervise
children = [Child(name, name, [], grace=float(sys.argv[1])) for name in sys.argv[2:]]
# In one piece: it is called by several threads.
print(supervise(children, lambda name, line: os.write(1, f"{name} | {line}\\n".encode())) or "stopped", flush=True)
"""
MODULES = {
    "polite": """
import time
try:
    print("up")
    time.sleep(60)
finally:
    print("down")
""",
    "stubborn": """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up")
time.sleep(60)
""",
    "failing": "raise SystemExit(3)",
    "crashing": "1 / 0",
    "parent": """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("grandchild", child.pid)
time.sleep(60)
""",
}
MODULES["courteous"] = MODULES["polite"]


@pytest.fixture
def supervised(tmp_path):
    """Starts a supervisor over children that run these modules."""
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(source)
    environ = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{settings.BASE_DIR}"}

    def start(*names, grace):
        return started([sys.executable, "-c", PROGRAM, str(grace), *names], environ)

    return start


def wait_until_up(process, *names):
    for name in names:
        if f"{name} | up" not in process.lines:
            process.read_until(f"{name} | up")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_children_end_one_after_the_other_in_reverse_order(number, supervised):
    with supervised("polite", "courteous", grace=10) as process:
        wait_until_up(process, "polite", "courteous")
        process.popen.send_signal(number)
        assert process.ended() == 0
    assert process.lines[-3:] == ["courteous | down", "polite | down", "stopped"]


def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(supervised):
    with supervised("stubborn", grace=0.2) as process:
        wait_until_up(process, "stubborn")
        process.press_ctrl_c()
        assert process.ended() == 0
        assert_gone(process.children.values())
    assert process.lines[-2:] == ["stubborn | did not stop within 0.2 s and is killed", "stopped"]


def test_a_second_ctrl_c_does_not_wait_for_the_grace(supervised):
    with supervised("stubborn", "polite", grace=60) as process:
        wait_until_up(process, "stubborn", "polite")
        process.press_ctrl_c()
        process.read_until("polite | down")
        process.press_ctrl_c()
        assert process.ended() == 0
        assert_gone(process.children.values())


def test_a_stubborn_child_does_not_outlive_a_killed_supervisor(supervised):
    with supervised("stubborn", grace=0.2) as process:
        wait_until_up(process, "stubborn")
        process.popen.kill()
        assert_gone(process.children.values())


def test_what_a_child_has_started_ends_with_it(supervised):
    with supervised("parent", grace=10) as process:
        process.read_until("grandchild")
        grandchild = int(process.lines[-1].split()[-1])
        process.press_ctrl_c()
        assert process.ended() == 0
        assert_gone([grandchild])


def test_children_end_when_nobody_reads_their_lines_any_more(supervised):
    with supervised("polite", "failing", grace=10) as process:
        process.read_until("failing | started")
        process.popen.stdout.close()
        assert process.popen.wait(10) == -signal.SIGPIPE
        assert_gone(process.children.values())


@pytest.mark.parametrize(("name", "code"), [("failing", 3), ("crashing", 1)])
def test_a_child_that_ends_by_itself_is_named_after_its_last_line(name, code, supervised):
    with supervised("polite", name, grace=10) as process:
        assert process.ended() == 0
        assert_gone(process.children.values())
    assert process.lines[-1] == f"{name} ended unexpectedly (exit code {code})"
    if name == "crashing":
        assert "crashing | ZeroDivisionError: division by zero" in process.lines

"""`manage.py serve` and its supervisor as real processes: all start together, and none is left running."""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command

from batches.conf import command_line
from batches.management.commands import serve as serve_module
from batches.models import OUTDATED, Batch, BatchProfile, Lease
from batches.tests.support.brokers import open_broker
from batches.tests.support.factories import api_key, make_batch
from batches.tests.support.ports import free_port
from batches.tests.support.processes import WAIT_SECONDS, Commands, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]


def children(process):
    """Process ids by name."""
    return {name: int(pid) for name, pid in re.findall(r"(\w+) *\| started as process (\d+)", process.out)}


def press_ctrl_c(process):
    """As a terminal does: the signal goes to the whole process group."""
    os.killpg(process.popen.pid, signal.SIGINT)


def is_running(pid):
    with suppress(FileNotFoundError, ProcessLookupError):
        # An orphan stays a zombie until the first process of the machine reaps it.
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()


def assert_gone(pids):
    wait_until(lambda: not any(map(is_running, pids)))


def assert_ended(process):
    assert process.wait() == 0
    assert_gone(children(process).values())


# -- manage.py serve ---------------------------------------------------------------------------------------------------


def find_ports():
    """Free ports for the web application and for the demo's feeds."""
    return {"PORT": free_port(), "DEMO_PORT": free_port()}


@pytest.fixture
def ports(monkeypatch):
    ports = find_ports()
    for name, port in ports.items():
        monkeypatch.setenv(name, port)
    return ports


@pytest.fixture
def serve(commands, ports):
    def start(*options, **environ):
        own = {"BATCHES_ALLOWED_NETWORKS": "", **ports, **environ}
        process = commands.start("serve", *options, environ=own, process_group=0)
        process.wait_for(lambda: "Serving on" in process.out)
        return process

    return start


def get(ports, path="/admin/login/", **headers):
    """Status, location and text. Redirects are not followed."""
    with closing(HTTPConnection("127.0.0.1", int(ports["PORT"]), timeout=WAIT_SECONDS)) as connection:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers.get("Location", ""), response.read().decode()


def test_web_worker_and_demo_run_together_and_ctrl_c_ends_them_all(serve, ports):
    process = serve("--demo")
    process.wait_for(lambda: children(process).keys() == {"web", "worker"})
    status, _, page = get(ports)
    assert (status, "csrfmiddlewaretoken" in page) == (200, True)
    assert f"Admin: http://127.0.0.1:{ports['PORT']}/admin/\n" in process.out
    assert "Demo queue created: 3 batches, 300 profiles" in process.out
    process.wait_for(lambda: BatchProfile.objects.filter(status=BatchProfile.Status.OK).exists())
    press_ctrl_c(process)
    assert_ended(process)
    assert process.out.endswith("\nStopped.\n")
    with pytest.raises(ConnectionRefusedError):
        get(ports)


def test_celery_runs_the_workers_if_it_has_a_broker(serve, ports):
    with open_broker("redis") as broker:
        process = serve("--demo", "--executor=celery", "--processes=2", CELERY_BROKER_URL=broker.url)
        process.wait_for(lambda: children(process).keys() == {"web", "celery", "beat"})
        process.wait_for(lambda: BatchProfile.objects.filter(status=BatchProfile.Status.OK).exists())
        press_ctrl_c(process)
        assert_ended(process)
    assert not Lease.objects.exists()


@pytest.mark.parametrize("environ", [{}, {"FORCE_SCRIPT_NAME": "/below"}])
def test_below_a_path_every_style_and_script_loads_whether_or_not_a_proxy_removes_the_path(serve, ports, environ):
    process = serve("--no-workers", *([] if environ else ["--url-prefix", "below/"]), **environ)
    assert f"Admin: http://127.0.0.1:{ports['PORT']}/below/admin/\n" in process.out
    _, _, page = get(ports)
    addresses = re.findall(r'(?:href|src)="([^"]+\.(?:css|js|svg))"', page)
    assert addresses[0] == "/below/static/admin/css/base.css"
    assert "/below/static/batches/admin.css" in addresses
    for address in [*addresses, *(address.removeprefix("/below") for address in addresses), "/below/admin/login/"]:
        assert get(ports, address)[0] == 200, address
    assert get(ports, "/below/favicon.ico")[1] == "/below/static/batches/icon.svg"


def test_without_the_demo_a_killed_worker_starts_again_and_the_death_of_the_web_application_ends_all(serve, ports):
    process = serve()
    assert process.out.startswith(f"Admin: http://127.0.0.1:{ports['PORT']}/admin/\nStop with Ctrl-C.\n")
    assert children(process).keys() == {"web", "worker"}
    assert not User.objects.exists()
    assert not Batch.objects.exists()
    killed = children(process)["worker"]
    os.kill(killed, signal.SIGKILL)
    process.wait_for(lambda: children(process)["worker"] != killed)
    assert get(ports)[0] == 200
    os.kill(children(process)["web"], signal.SIGKILL)
    assert process.wait() == 1
    assert_gone(children(process).values())
    assert process.err == "CommandError: web ended unexpectedly (SIGKILL). All processes were stopped.\n"


def test_where_the_workers_are_another_service_the_web_application_runs_alone_here_with_https(serve, ports):
    """The header of the proxy counts, and plain HTTP is redirected."""
    process = serve("--no-workers", BATCHES_EXECUTOR="celery", HTTPS="on")
    assert children(process).keys() == {"web"}
    assert get(ports, **{"X-Forwarded-Proto": "https"})[0] == 200
    status, location, _ = get(ports)
    assert (status, location.partition(":")[0]) == (301, "https")
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


@pytest.fixture(scope="module")
def server(database_url, django_db_setup):
    """The ports of a running server behind one proxy, with two requests a minute for each address."""
    ports = find_ports()
    rates = {"BATCHES_API_PROXIES": "1", "BATCHES_API_ANONYMOUS_RATE": "2/minute", "BATCHES_API_RATE": "off"}
    with Commands(database_url) as commands:
        process = commands.start("serve", "--no-workers", environ=ports | rates)
        process.wait_for(lambda: "Serving on" in process.out)
        yield ports


def connect(ports, request=""):
    """A visitor that sends this and then sleeps."""
    visitor = socket.socket()
    visitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    visitor.settimeout(WAIT_SECONDS)
    visitor.connect(("127.0.0.1", int(ports["PORT"])))
    visitor.sendall(request.encode())
    return visitor


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(server):
    request = "POST /api/v1/batches/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
    with connect(server, request) as visitor:
        assert visitor.recv(1024).startswith(b"HTTP/1.1 413 Request Entity Too Large\r\n")


def test_a_response_to_head_has_no_body(server):
    for path in ("/admin/login/", "/healthz"):  # with a Content-Length, and in chunks
        with connect(server, f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") as visitor:
            header, _, body = b"".join(iter(lambda: visitor.recv(65536), b"")).partition(b"\r\n\r\n")
        assert (header[:15], body) == (b"HTTP/1.1 200 OK", b""), path


def test_idle_visitors_and_sleeping_readers_of_exports_keep_nobody_waiting(server):
    batch = make_batch(profiles=12_000)
    batch.profiles.update(error="x" * 2000)  # more than 16 MB, and what the sockets hold
    key = api_key(User.objects.create_superuser("reader"))
    export = f"GET /api/v1/batches/{batch.pk}/export/jsonl/ HTTP/1.1\r\n"
    export += f"Host: localhost\r\nAuthorization: Token {key}\r\n\r\n"
    with ExitStack() as visitors:
        for _ in range(200):
            visitors.enter_context(connect(server))
        for _ in range(10):
            reader = visitors.enter_context(connect(server, export))
            assert reader.recv(15) == b"HTTP/1.1 200 OK"
        assert get(server)[0] == 200


def test_each_visitor_behind_the_proxy_has_an_address(server):
    addresses = ["192.0.2.1"] * 3 + ["192.0.2.2"]
    assert [get(server, "/api/v1/queue/", **{"X-Forwarded-For": it})[0] for it in addresses] == [401, 401, 429, 401]


@pytest.fixture
def refused(manage, monkeypatch):
    """What `serve` prints to standard error; it must not start anything."""
    monkeypatch.setattr(serve_module, "supervise", lambda *_: pytest.fail("started"))

    def run(*options):
        output = manage("serve", *options)
        assert output.code == 1
        return output.err

    return run


def test_celery_without_a_broker_gets_one_sentence_and_nothing_is_started(refused, ports):
    sentence = "Celery needs a broker. Set CELERY_BROKER_URL to amqp://localhost or redis://localhost."
    assert refused("--executor", "celery") == sentence


def test_it_starts_the_requested_number_of_workers(manage, ports, monkeypatch):
    started = []
    monkeypatch.setattr(serve_module, "supervise", lambda children, _: started.extend(child.name for child in children))
    assert manage("serve", "--processes", "2").code == 0
    assert started == ["web", "worker1", "worker2"]


def test_a_port_in_use_gets_one_sentence_and_nothing_is_started(refused, ports):
    port, demo_port = map(int, ports.values())
    with socket.create_server(("127.0.0.1", port)):
        assert refused() == f"Port {port} is in use. Choose another one: PORT={port + 1} {command_line('serve')}"
    with socket.create_server(("127.0.0.1", demo_port)):
        remedy = f"Choose another one for the demo: DEMO_PORT={demo_port + 1} {command_line('serve --demo')}"
        assert refused("--demo") == f"Port {demo_port} is in use. {remedy}"
    assert not Batch.objects.exists()


def test_a_demo_with_a_port_that_was_taken_later_says_how_to_continue_without_it(refused, ports, monkeypatch):
    call_command("demo")
    monkeypatch.setenv("DEMO_PORT", free_port())
    with socket.create_server(("127.0.0.1", int(ports["DEMO_PORT"]))):
        sentence = refused("--demo")
    assert re.fullmatch(rf"Port {ports['DEMO_PORT']} is in use\. .* manage\.py serve", sentence)


def test_a_host_that_cannot_be_listened_on_gets_one_sentence(refused, ports):
    for host in ("192.0.2.1", "no.such.invalid"):
        sentence = refused("--host", host)
        assert re.fullmatch(rf"Cannot listen on {host}, port {ports['PORT']}: [A-Z][a-z ]+\.", sentence)


def test_a_command_without_a_usable_database_gets_one_sentence(commands, ports, tmp_path):
    outdated = f"The database is not up to date. Run: {command_line('migrate')}"
    away = "The database does not answer: unable to open database file"
    (text := tmp_path / "text.sqlite3").write_text("This is not a database.\n" * 100)
    tried = [
        (["serve"], tmp_path / "new.sqlite3", outdated),
        (["batchworker"], tmp_path / "new.sqlite3", outdated),
        (["queue", "show"], tmp_path / "new.sqlite3", outdated),
        (["batchworker"], "/nowhere/db.sqlite3", away),
        (["migrate"], "/nowhere/db.sqlite3", away),
        (["dumpdata"], "/nowhere/db.sqlite3", away),
        (["changepassword"], tmp_path / "new.sqlite3", str(OUTDATED)),
        (["queue", "show"], text, "The database does not answer: file is not a database"),
    ]
    started = [
        commands.start(*arguments, environ={"DATABASE_URL": f"sqlite:///{path}"}) for arguments, path, _ in tried
    ]
    for command, (*_, sentence) in zip(started, tried, strict=True):
        assert (command.wait(), command.err) == (1, f"CommandError: {sentence}\n")


# -- The supervisor, with small programs that do one thing each --------------------------------------------------------

PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_IGN if "NOHUP" in os.environ else signal.SIG_DFL)
from batches.management import supervisor
from batches.management.supervisor import Child, supervise
supervisor.FIRST_DELAY, supervisor.LONGEST_DELAY = 0.01, 0.03
class SlowThread(supervisor.Thread):
    def start(self):
        super().start()
        time.sleep(1.0)
if "SLOWLY" in os.environ:
    supervisor.Thread = SlowThread
restarting = os.environ.get("RESTARTING", "").split()
children = [Child(name, name, [], float(sys.argv[1]), restarts=name in restarting) for name in sys.argv[2:]]
# In one piece: it is called by several threads.
print(supervise(children, lambda name, line: os.write(1, f"{name} | {line}\\n".encode())) or "stopped", flush=True)
"""
MODULES = {
    "polite": """
import time
try:
    print("up")
    time.sleep(600)
finally:
    print("down")
""",
    "stubborn": """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up")
time.sleep(600)
""",
    "failing": "raise SystemExit(3)",
    "crashing": "1 / 0",
    "parent": """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("grandchild", child.pid)
time.sleep(600)
""",
}
MODULES["courteous"] = MODULES["polite"]
MODULES["one"] = MODULES["two"] = """
import signal, time
from pathlib import Path
def end(*_):
    (Path("FOLDER") / f"{__spec__.name}.ends").touch()
    while not all((Path("FOLDER") / f"{name}.ends").exists() for name in ("one", "two")):
        time.sleep(0.01)
    raise SystemExit
signal.signal(signal.SIGTERM, end)
print("up")
time.sleep(600)
"""


@pytest.fixture
def supervise(commands, tmp_path):
    """Starts a supervisor with children that run these modules, and waits until they are up or it has ended."""
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(source.replace("FOLDER", str(tmp_path)))

    def start(*names, grace=60.0, environ=None, **streams):
        environ = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{settings.BASE_DIR}", **(environ or {})}
        command = [sys.executable, "-c", PROGRAM, str(grace), *names]
        process = commands.start_program(*command, environ=environ, process_group=0, **streams)
        if not streams:
            ready = [f"{name} | up\n" for name in names if "up" in MODULES[name]]
            # A child that ends unexpectedly may stop the others before they are up.
            process.wait_for(lambda: process.popen.poll() is not None or all(line in process.out for line in ready))
        return process

    return start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_children_end_one_after_the_other_in_reverse_order(number, supervise):
    process = supervise("polite", "courteous")
    process.signal(number)
    assert process.wait() == 0
    assert process.out.endswith("\ncourteous | down\npolite | down\nstopped\n")


def test_under_nohup_they_continue_after_the_terminal_is_closed(supervise):
    process = supervise("polite", environ={"NOHUP": "1"})
    process.signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.popen.wait(0.5)
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def test_a_child_that_ignores_sigterm_is_killed_after_its_grace_period(supervise):
    process = supervise("stubborn", grace=0.2)
    press_ctrl_c(process)
    assert_ended(process)
    assert process.out.endswith("stubborn | did not stop within 0.2 s and is killed\nstopped\n")


def test_a_second_ctrl_c_does_not_wait_for_the_grace_period(supervise):
    process = supervise("stubborn", "polite", grace=3600)
    press_ctrl_c(process)
    process.wait_for(lambda: "polite | down" in process.out)
    press_ctrl_c(process)
    assert_ended(process)


def test_a_stubborn_child_does_not_outlive_a_killed_supervisor(supervise):
    process = supervise("stubborn", grace=0.2)
    process.signal(signal.SIGKILL)
    assert_gone(children(process).values())


def test_the_processes_of_a_child_end_with_it(supervise):
    process = supervise("parent")
    process.wait_for(lambda: re.search(r"grandchild \d+\n", process.out))
    press_ctrl_c(process)
    assert process.wait() == 0
    assert_gone([int(re.search(r"grandchild (\d+)", process.out)[1])])


def test_children_end_when_nobody_reads_their_lines(supervise):
    reading, writing = os.pipe()
    process = supervise("polite", "failing", stdout=writing)
    os.close(writing)
    with open(reading) as lines:
        pids = [int(next(line for line in lines if " | started as process " in line).split()[-1]) for _ in range(2)]
    assert process.wait() == -signal.SIGPIPE
    assert_gone(pids)


@pytest.mark.parametrize(("name", "code"), [("failing", 3), ("crashing", 1)])
def test_a_child_that_ends_unexpectedly_is_named_after_its_last_line(name, code, supervise):
    process = supervise("polite", name)
    assert_ended(process)
    assert process.out.endswith(f"\n{name} ended unexpectedly (exit code {code})\n")
    assert ("crashing | ZeroDivisionError: division by zero" in process.out) == (name == "crashing")


def test_a_child_that_restarts_starts_again_and_again_with_longer_and_longer_delays(supervise):
    process = supervise("polite", "failing", environ={"RESTARTING": "failing"})
    line = "failing | failing ended unexpectedly (exit code 3), and starts again in"
    process.wait_for(lambda: process.out.count(line) >= 4)
    delays = re.findall(rf"{re.escape(line)} (\S+) s", process.out)
    assert delays[:4] == ["0.01", "0.02", "0.03", "0.03"]
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert process.out.endswith("polite | down\nstopped\n")


@pytest.mark.parametrize("environ", [{}, {"SLOWLY": "1"}], ids=["working", "starting"])
def test_children_that_restart_stop_together(environ, supervise):
    """Each of these ends when the other one has received its signal, perhaps while the last one is starting."""
    process = supervise("one", "two", environ={"RESTARTING": "one two", **environ})
    process.wait_for(lambda: process.out.count("| up") == 2)
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert "is killed" not in process.out

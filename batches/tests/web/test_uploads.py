"""What is too large is refused before it is stored, and what is cut off or killed in the middle leaves nothing."""

import os
import signal
import socket
import sqlite3
import struct
import subprocess
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connection, connections, transaction
from django.test import Client
from django.urls import reverse
from rest_framework.authtoken.models import Token
from waitress.server import create_server

from batches.lists.reading import read_profiles
from batches.models import Batch, BatchLog, BatchProfile, Profile, Queue
from batches.models.api import StoredResponse
from batches.tests.support.working import commands

__all__ = ["commands"]

API = "/api/v1/batches/"
FORM = reverse("admin:batches_batch_add")
FIELDS = {API: {"name": "news"}, FORM: {"name": "news", "priority": "0", "checker": "feed"}}
CSRF = "a" * 32
linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Only Linux tells what a process does.")
COUNT = 3_000
LIST = "".join(f"https://example.org/{number}\n" for number in range(COUNT)).encode()


@pytest.fixture
def root():
    return User.objects.create_superuser("root")


@pytest.fixture
def client_by(root):
    """A client that shows who it is by this means, and is looked at as strictly as in an installation."""

    def make(means):
        if means == "token":
            return Client(headers=token_of(root))
        client = Client(enforce_csrf_checks=True, headers={"X-CSRFToken": CSRF})
        client.force_login(root)
        client.cookies["csrftoken"] = CSRF
        return client

    return make


def token_of(user):
    return {"Authorization": f"Token {Token.objects.create(user=user).key}"}


def assert_nothing_stored():
    models = (Batch, BatchProfile, BatchLog, Profile, StoredResponse)
    assert [model.__name__ for model in models if model._base_manager.exists()] == []


def assert_made():
    """One batch, whole."""
    assert Batch.objects.get().total_profiles == BatchProfile.objects.count() == Profile.objects.count() == COUNT


# -- Too large ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_limits(settings, monkeypatch):
    """50 KB for a form and 10 KB for a text, where an installation has 201 MB and 20 MB; and no byte to the disk."""

    def refuse(**options):
        raise AssertionError("It was written to the disk.")

    monkeypatch.setattr("batches.web.uploads.MAX_FORM_BYTES", 50_000)
    monkeypatch.setattr("batches.web.uploads.TemporaryFile", refuse)
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10_000
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 1_000


def assert_too_large(answer, path):
    assert answer.status_code == 413
    if path == API:
        assert answer.json()["code"] == "too_large"
        assert "as a file" in answer.json()["detail"]
    else:
        page = answer.content.decode()
        assert "Nothing was stored." in page
        assert "You can paste up to 9.8\xa0KB. Save a longer list as a file and upload it." in page
        assert "A file can have up to 200 MB. Split a larger one." in page
        assert "Content-Security-Policy" in answer.headers
    assert_nothing_stored()


@pytest.mark.django_db
@pytest.mark.parametrize(("means", "path"), [("token", API), ("session", API), ("session", FORM)])
def test_a_file_that_is_too_large_is_refused_before_it_is_stored(means, path, client_by, small_limits):
    file = SimpleUploadedFile("list.txt", LIST)
    assert_too_large(client_by(means).post(path, {**FIELDS[path], "file": file}), path)


@pytest.mark.django_db
def test_a_text_that_is_too_long_to_be_pasted_is_told_to_be_uploaded(client_by, small_limits, caplog):
    assert_too_large(client_by("session").post(FORM, {**FIELDS[FORM], "addresses": LIST[:20_000].decode()}), FORM)
    [line] = caplog.records
    assert line.getMessage().startswith(f"POST {FORM}: ")
    assert not line.exc_info


@pytest.mark.django_db
@pytest.mark.parametrize("means", ["token", "session"])
def test_a_body_in_json_that_is_too_large_is_told_to_be_uploaded(means, client_by, small_limits):
    body = {"name": "news", "profiles": LIST[:20_000].decode().split()}
    assert_too_large(client_by(means).post(API, body, content_type="application/json"), API)


@pytest.mark.django_db
def test_a_form_that_cannot_be_read_gets_a_page_that_says_so(client_by):
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\nx\r\n--x--' % (b"x" * 5_000)
    answer = client_by("session").post(FORM, body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 400
    assert "short, plain name" in answer.content.decode()
    assert_nothing_stored()


# -- On the disk -------------------------------------------------------------------------------------------------------


def open_in(folder):
    """The files of this folder that this process has open, also those without a name."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [path for path in found if path.startswith(f"{folder}/")]


@linux
@pytest.mark.django_db
@pytest.mark.parametrize(("means", "path"), [("token", API), ("session", FORM)])
def test_a_long_list_waits_in_a_file_that_no_kill_can_leave_behind(
    means, path, client_by, settings, tmp_path, monkeypatch
):
    seen = []

    def read(source, **options):
        seen.append((len(open_in(tmp_path)), os.listdir(tmp_path)))
        return read_profiles(source, **options)

    monkeypatch.setattr(f"batches.{'api.bodies' if path == API else 'admin.forms'}.read_profiles", read)
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 1_000
    answer = client_by(means).post(path, {**FIELDS[path], "file": SimpleUploadedFile("list.txt", LIST)})
    assert answer.status_code in {200, 201}
    assert seen == [(1, [])]
    assert open_in(tmp_path) == []


# -- Cut off and killed ------------------------------------------------------------------------------------------------


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextmanager
def web_server():
    """waitress, with a real socket and this process's database."""
    server = create_server(get_wsgi_application(), listen="127.0.0.1:0", threads=1)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.trigger.pull_trigger(server.close)
        thread.join(30)
        server.task_dispatcher.shutdown()


@linux
@pytest.mark.django_db(transaction=True)
@pytest.mark.databases("sqlite")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # waitress drops what it does not need
def test_an_upload_that_is_cut_off_leaves_nothing(root, tmp_path, monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)  # nobody closes a thread's connections
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    head = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nnews\r\n'
    head += b'--x\r\nContent-Disposition: form-data; name="file"; filename="list.txt"\r\n\r\n'
    body = head + LIST + b"# \n" * 300_000 + b"\r\n--x--\r\n"
    headers = {"Host": "localhost", "Content-Type": "multipart/form-data; boundary=x", "Content-Length": len(body)}
    headers |= token_of(root) | {"Idempotency-Key": "one", "Connection": "close"}
    lines = [f"POST {API} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    request = "\r\n".join(lines).encode() + body
    with web_server() as server:
        address = ("127.0.0.1", server.effective_port)
        with socket.create_connection(address) as connected:
            connected.sendall(request[:-100_000])
            wait_for(lambda: open_in(tmp_path))  # what has arrived is too much for the memory
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # cut, not closed
        wait_for(lambda: not server.active_channels and not open_in(tmp_path))
        assert os.listdir(tmp_path) == []
        assert_nothing_stored()
        with socket.create_connection(address) as connected:
            connected.sendall(request)
            assert connected.recv(100).startswith(b"HTTP/1.1 201")
        wait_for(lambda: not server.active_channels and not open_in(tmp_path))
        assert os.listdir(tmp_path) == []
    assert_made()


@pytest.fixture
def list_file(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(LIST)
    return str(path)


@contextmanager
def storing_without_end():
    """Lets an import store its profiles, and keeps it from ending; gives what waits until one has come so far."""
    if connection.vendor == "postgresql":
        with transaction.atomic():
            Queue.objects.select_for_update().get()
            yield lambda process: process.wait_for(somebody_waits_for_a_lock)
        return
    # SQLite has one lock for all of it. So the import has to count to a very large number for its first profile.
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
    table = BatchProfile._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TRIGGER stop AFTER INSERT ON {table} BEGIN SELECT COUNT(*) FROM ({endless}); END")
    try:
        yield wait_until_it_counts
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER stop")


def somebody_waits_for_a_lock():
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM pg_locks WHERE NOT granted")
        return cursor.fetchone()[0]


def wait_until_it_counts(process):
    process.wait_for(database_is_locked)
    before = seconds_at_work(process)
    process.wait_for(lambda: seconds_at_work(process) > before + 0.2)


def database_is_locked():
    with closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=0, isolation_level=None)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        return False


def seconds_at_work(process):
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@linux
def test_a_command_that_is_killed_while_it_stores_leaves_nothing_and_can_be_given_again(commands, list_file):
    Queue.objects.get_or_create(pk=Queue.THE_ONE)
    with storing_without_end() as wait_until_it_stores:
        process = commands.start("batch", "create", list_file)
        wait_until_it_stores(process)
        process.signal(signal.SIGKILL)
        assert process.ended() == -signal.SIGKILL
    assert_nothing_stored()
    call_command("batch", "create", list_file)
    assert_made()


@pytest.mark.databases("sqlite")
def test_a_command_that_is_killed_while_it_reads_leaves_nothing(commands):
    process = commands.start("batch", "create", "-", stdin=subprocess.PIPE)
    process.popen.stdin.write(LIST * 20)  # far more than a pipe holds: it has begun to read
    process.signal(signal.SIGKILL)
    assert process.ended() == -signal.SIGKILL
    with suppress(BrokenPipeError):
        process.popen.stdin.close()
    assert_nothing_stored()

"""An upload that is too large is refused before it is stored, and an interrupted one leaves nothing."""

import os
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.test import Client
from django.urls import reverse
from waitress.server import create_server

from batches.lists.formats import read_profiles
from batches.models import Batch, BatchLog, BatchProfile, Profile
from batches.models.api import StoredResponse
from batches.tests.support.factories import api_key
from batches.tests.support.processes import wait_until
from batches.web.outages import RETRY_AFTER
from batches.web.uploads import NO_ROOM

API = "/api/v1/batches/"
FORM = reverse("admin:batches_batch_add")
FIELDS = {API: {"name": "news"}, FORM: {"name": "news", "priority": "0", "checker": "feed"}}
CSRF = "a" * 32
linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Only Linux lists the open files of a process.")
COUNT = 3_000
LIST = "".join(f"https://example.org/{number}\n" for number in range(COUNT)).encode()


def client_by(means):
    """Return a client that authenticates by token or session, with the checks of an installation."""
    user = User.objects.create_superuser("root")
    if means == "token":
        return Client(headers=token_of(user))
    client = Client(enforce_csrf_checks=True, headers={"X-CSRFToken": CSRF})
    client.force_login(user)
    client.cookies["csrftoken"] = CSRF
    return client


def token_of(user):
    return {"Authorization": f"Token {api_key(user)}"}


def assert_nothing_stored(models=(Batch, BatchProfile, BatchLog, Profile, StoredResponse)):
    assert [model.__name__ for model in models if model._base_manager.exists()] == []


@pytest.fixture
def small_limits(settings, monkeypatch):
    """Limits a form to 50 KB and a text to 10 KB instead of 201 MB and 20 MB, and forbids temporary files."""

    def refuse(**options):
        raise AssertionError("The upload was written to the disk.")

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
def test_a_file_that_is_too_large_is_refused_before_it_is_stored(means, path, small_limits):
    file = SimpleUploadedFile("list.txt", LIST)
    assert_too_large(client_by(means).post(path, {**FIELDS[path], "file": file}), path)


@pytest.mark.django_db
@pytest.mark.parametrize("means", ["token", "session"])
def test_a_text_that_is_too_long_is_refused_with_the_advice_to_upload_it(means, small_limits, caplog):
    text, client = LIST[:20_000].decode(), client_by(means)
    body = {"name": "news", "profiles": text.split()}
    assert_too_large(client.post(API, body, content_type="application/json"), API)
    if means == "session":
        caplog.clear()
        assert_too_large(client.post(FORM, {**FIELDS[FORM], "addresses": text}), FORM)
        [line] = caplog.records
        assert line.getMessage().startswith(f"POST {FORM}: ")
        assert not line.exc_info


@pytest.mark.django_db
@pytest.mark.parametrize(("means", "path"), [("token", API), ("session", API), ("session", FORM)])
def test_a_file_that_does_not_fit_on_the_disk_is_refused_and_closed(means, path, settings, monkeypatch, caplog):
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 1_000
    full = open("/dev/full", "w+b")  # noqa: SIM115 — it is closed below
    monkeypatch.setattr("batches.web.uploads.TemporaryFile", lambda **options: full)
    client = client_by(means)
    answer = client.post(path, {**FIELDS[path], "file": SimpleUploadedFile("list.txt", LIST)})
    assert (answer.status_code, answer["Retry-After"]) == (503, str(RETRY_AFTER))
    assert NO_ROOM in (answer.json()["detail"] if path == API else answer.content.decode())
    assert "An upload could not be stored: No space left on device" in caplog.messages
    assert full.closed
    assert_nothing_stored()


@pytest.mark.django_db
def test_an_unreadable_form_gets_a_page_that_says_so():
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\nx\r\n--x--' % (b"x" * 5_000)
    answer = client_by("session").post(FORM, body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 400
    assert "short, plain name" in answer.content.decode()
    assert_nothing_stored()


def open_in(folder):
    """Return the open files of this process in the folder, also unnamed ones."""
    paths = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [path for path in paths if path.startswith(f"{folder}/")]


@linux
@pytest.mark.django_db
@pytest.mark.parametrize(("means", "path"), [("token", API), ("session", FORM)])
def test_a_long_list_is_read_from_an_unnamed_file_that_no_kill_can_leave_behind(
    means, path, settings, tmp_path, monkeypatch
):
    seen = []

    def read(source, **options):
        seen.append((len(open_in(tmp_path)), os.listdir(tmp_path)))
        return read_profiles(source, **options)

    monkeypatch.setattr(f"batches.{'api.request_fields' if path == API else 'admin.forms'}.read_profiles", read)
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 1_000
    answer = client_by(means).post(path, {**FIELDS[path], "file": SimpleUploadedFile("list.txt", LIST)})
    assert answer.status_code in {200, 201}
    assert seen == [(1, [])]
    assert open_in(tmp_path) == []


@contextmanager
def web_server():
    """Run waitress on a real socket, with the database of this process."""
    server = create_server(get_wsgi_application(), listen="127.0.0.1:0", threads=1)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.trigger.pull_trigger(server.close)
        thread.join(60)
        server.task_dispatcher.shutdown()


@linux
@pytest.mark.django_db(transaction=True)
@pytest.mark.databases("sqlite")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # waitress drops unread uploads
def test_an_interrupted_upload_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)  # nothing else closes them
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    head = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nnews\r\n'
    head += b'--x\r\nContent-Disposition: form-data; name="file"; filename="list.txt"\r\n\r\n'
    body = head + LIST + b"# \n" * 300_000 + b"\r\n--x--\r\n"
    headers = {"Host": "localhost", "Content-Type": "multipart/form-data; boundary=x", "Content-Length": len(body)}
    headers |= token_of(User.objects.create_superuser("root")) | {"Idempotency-Key": "one", "Connection": "close"}
    lines = [f"POST {API} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    request = "\r\n".join(lines).encode() + body
    with web_server() as server:
        address = ("127.0.0.1", server.effective_port)
        with socket.create_connection(address) as connected:
            connected.sendall(request[:-100_000])
            wait_until(lambda: open_in(tmp_path))  # waitress buffers a large request in a file
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset instead of close
        wait_until(lambda: not server.active_channels and not open_in(tmp_path))
        assert os.listdir(tmp_path) == []
        assert_nothing_stored()
        with socket.create_connection(address) as connected:
            connected.sendall(request)
            assert connected.recv(100).startswith(b"HTTP/1.1 201")
        wait_until(lambda: not server.active_channels and not open_in(tmp_path))
        assert os.listdir(tmp_path) == []
    assert Batch.objects.get().total_profiles == BatchProfile.objects.count() == Profile.objects.count() == COUNT

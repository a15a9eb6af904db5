"""Hostile files become the batch of their addresses, or a clear refusal that leaves no trace, through each channel.
Their names are sent unchanged."""

import re
from contextlib import suppress

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from batches.management.commands.batch import Command
from batches.models import Batch, BatchLog, Profile
from batches.tests.support.factories import api_key, undone
from batches.text import printable

from .corpus import list_files

FORM = reverse("admin:batches_batch_add")
FIELDS = {"name": "news", "priority": "0", "checker": "feed", "queue": "on"}
#: A terminal would obey these.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def assert_made(file):
    """There is one batch of exactly the file's addresses in their order."""
    batch = Batch.objects.get()
    rows = list(batch.profiles.order_by("pk").values_list("profile__url", "profile__name"))
    assert tuple(url for url, _ in rows) == file.urls, file.label
    assert batch.total_profiles == len(rows) == Profile.objects.count(), file.label
    assert not any(CONTROL.search(name) or len(name) > 200 for _, name in rows), file.label
    assert BatchLog.objects.get().action == "create_batch"


def assert_refused(file, reason):
    assert not file.urls or file.has_bad_name, (file.label, reason)
    assert 10 < len(reason) < 1500, (file.label, reason)
    assert not CONTROL.search(reason), (file.label, reason)
    assert_nothing_stored(file)


def assert_nothing_stored(file):
    assert not any(model._base_manager.exists() for model in (Batch, BatchLog, Profile, LogEntry)), file.label


def form_body(file, **fields):
    """The body of a form with this file under its own name, and the content type."""
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts.append((f'name="file"; filename="{file.name}"', file.content))
    body = b"".join(
        b"--x=\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (head.encode("utf-8", "surrogatepass"), value)
        for head, value in parts
    )
    return body + b"--x=--\r\n", "multipart/form-data; boundary=x="


# Each channel sends a file, and returns the reason of a refusal, or nothing.


@pytest.fixture
def api():
    root = User.objects.create_superuser("root")
    client = Client(headers={"Authorization": f"Token {api_key(root)}"})

    def send(file):
        response = client.post("/api/v1/batches/", *form_body(file, name="news"))
        assert response.status_code in {201, 400}, file.label
        return None if response.status_code == 201 else response.json()["detail"]

    return send


@pytest.fixture
def admin():
    client = Client()
    client.force_login(User.objects.create_superuser("root"))

    def send(file):
        # As the page's script asks for it; the whole page takes five times as long.
        response = client.post(FORM, *form_body(file, **FIELDS), headers={"X-Requested-With": "fetch"})
        assert_nothing_stored(file)
        # Django allows 1,024 bytes for the headers of a part, with the file's name.
        assert (response.status_code == 400) is (len(file.name) > 1_000), file.label
        if response.status_code == 400:
            return "This is not a readable form."
        if "imported" not in response.context:
            [[reason]] = response.context["form"].errors.values()
            return reason
        confirmation = {"add": "yes", "previewed": response.context["imported"].digest}
        assert client.post(FORM, *form_body(file, **FIELDS, **confirmation)).status_code == 302, file.label
        return None

    return send


@pytest.fixture
def command(manage, tmp_path, monkeypatch):
    # Both are the same each time, and take two thirds of the time.
    monkeypatch.setattr(Command, "requires_migrations_checks", False)
    parser = Command().create_parser("", "batch")
    monkeypatch.setattr(Command, "create_parser", lambda *_: parser)

    def send(file):
        path = tmp_path / file.name.replace("/", "\\")
        with suppress(OSError, ValueError):  # no file can have this name, but somebody can ask for it
            path.write_bytes(file.content)
        code, _, reason = manage("batch", "create", path, "--name", "news")
        assert code in {0, 1}, file.label
        return reason.replace(printable(str(path)), "") if code else None

    return send


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("channel", ["api", "admin", "command"])
def test_each_file_becomes_the_batch_of_its_addresses_or_leaves_no_trace(channel, step, request):
    send = request.getfixturevalue(channel)
    for file in list_files()[::step]:
        with undone():
            reason = send(file)
            if reason is None:
                assert_made(file)
            else:
                assert_refused(file, reason)

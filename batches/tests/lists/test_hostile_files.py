"""Hostile files through each door: the batch that their addresses make, or a clear refusal that leaves no trace.

The files, and what is to come of each, are in `importers/hostile_files.py`. Their names are sent as they are.
"""

import os
import re
from contextlib import suppress

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.urls import reverse
from rest_framework.authtoken.models import Token

from batches.admin.forms import text_of
from batches.lists.imports import InvalidList
from batches.lists.reading import read_profiles
from batches.management.commands.batch import Command
from batches.management.output import printable
from batches.models import Batch, BatchLog, BatchProfile, Profile, Queue
from batches.models.api import StoredResponse
from batches.tests.support.factories import MODELS
from batches.tests.support.terminal import manage

from .hostile_files import hostile_files

__all__ = ["manage"]

API = "/api/v1/batches/"
FORM = reverse("admin:batches_batch_add")
FIELDS = {"name": "news", "priority": "0", "checker": "feed", "queue": "on"}
#: What an import may store, in the order in which it can be deleted.
IMPORTED = (LogEntry, StoredResponse, BatchLog, BatchProfile, Batch, Profile)
#: Whatever a sentence quotes of a file, no terminal obeys it.
NOT_IN_A_SENTENCE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

#: Every so many of the files go through the doors; 1 takes a minute.
STRIDE = int(os.environ.get("HOSTILE_FILES_STRIDE", "3"))
FILES = hostile_files()[::STRIDE]
WELL_NAMED = [file for file in hostile_files() if not file.may_be_refused]


@pytest.fixture
def root():
    return User.objects.create_superuser("root")


def stored():
    """How many rows each table has, and the version of the queue, in one query."""
    tables = [model._meta.db_table for model in (*MODELS, LogEntry)]
    counts = [f"SELECT '{table}', COUNT(*) FROM {table}" for table in tables]
    version = f"SELECT 'version', COALESCE(MAX(version), 0) FROM {Queue._meta.db_table}"
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join([*counts, version]))
        return dict(cursor.fetchall())


def assert_made(file):
    """There is one batch, of exactly the file's addresses in their order, and nothing of it is missing."""
    assert file.urls, file.label
    batch = Batch.objects.get()
    rows = list(batch.profiles.order_by("pk").values_list("profile__url", "profile__name"))
    assert tuple(url for url, _ in rows) == file.urls, file.label
    assert batch.total_profiles == len(rows) == Profile.objects.count(), file.label
    assert not any(NOT_IN_A_SENTENCE.search(name) or len(name) > 200 for _, name in rows), file.label
    assert BatchLog.objects.get().action == "create_batch"
    for model in IMPORTED:
        model._base_manager.all()._raw_delete(using="default")


def assert_refused(file, door, sentence, before):
    assert not file.urls or file.may_be_refused, (file.label, door, sentence)
    assert 10 < len(sentence) < 1500, (file.label, sentence)
    assert not NOT_IN_A_SENTENCE.search(sentence), (file.label, sentence)
    assert stored() == before, file.label


def request(file, **fields):
    """The body of a form with this file, and its content type; the file's name is in it as it is."""
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts.append((f'name="file"; filename="{file.name}"', file.content))
    body = b"".join(
        b"--x=\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (head.encode("utf-8", "surrogatepass"), value)
        for head, value in parts
    )
    return body + b"--x=--\r\n", "multipart/form-data; boundary=x="


def test_every_file_is_read_or_refused_as_it_should():
    for file in WELL_NAMED:
        assert read(file.content, file.name) == file.urls, file.label


def test_what_a_file_says_is_the_same_list_when_it_is_pasted():
    for file in WELL_NAMED:
        text = text_of(SimpleUploadedFile(file.name, file.content))
        if text is not None:
            assert read(text.encode()) == read(file.content, file.name), file.label


def read(content, name=""):
    try:
        return tuple(profile.url for profile in read_profiles(content, filename=name).profiles)
    except InvalidList:
        return ()


@pytest.mark.django_db
def test_through_the_api(root, settings):
    settings.WHITENOISE_AUTOREFRESH = True
    client = Client(headers={"Authorization": f"Token {Token.objects.create(user=root).key}"})
    before = stored()
    for number, file in enumerate(FILES):
        answer = client.post(API, *request(file, name="news"), headers={"Idempotency-Key": f"file-{number}"})
        said = answer.json()
        if answer.status_code == 201:
            assert said["accepted"] == said["batch"]["total_profiles"] == len(file.urls), file.label
            assert StoredResponse.objects.get().status_code == 201
            assert_made(file)
            before = stored()
        else:
            assert answer.status_code == 400, file.label
            assert_refused(file, "API", said["detail"], before)


@pytest.mark.django_db
def test_through_the_admins_form(root, settings):
    settings.WHITENOISE_AUTOREFRESH = True
    client = Client()
    client.force_login(root)
    before = stored()
    for file in FILES:
        # As the page's script asks for it; the whole page takes five times as long.
        shown = client.post(FORM, *request(file, **FIELDS), headers={"X-Requested-With": "fetch"})
        assert stored() == before, file.label
        if shown.status_code == 400:  # no form could be read
            assert file.may_be_refused, file.label
            assert "cannot be read" in shown.content.decode()
        elif "preview" in shown.context:
            assert shown.context["preview"].profiles == len(file.urls), file.label
            confirmation = {"add": "yes", "previewed": shown.context["preview"].imported.digest}
            answer = client.post(FORM, *request(file, **FIELDS, **confirmation))
            assert answer.status_code == 302, file.label
            assert_made(file)
            before = stored()
        else:
            [[sentence]] = shown.context["form"].errors.values()
            assert_refused(file, "form", sentence, before)


@pytest.mark.django_db
def test_through_the_command(manage, tmp_path, monkeypatch):
    # Both are the same each time, and take two thirds of the time.
    monkeypatch.setattr("batches.management.base.require_migrations", lambda: None)
    parser = Command().create_parser("", "batch")
    monkeypatch.setattr(Command, "create_parser", lambda *_: parser)
    before = stored()
    for file in FILES:
        if "/" in file.name:
            continue  # that is another path, and no name
        path = tmp_path / file.name
        with suppress(OSError, ValueError):  # no file can be called so, but somebody can ask for it
            path.write_bytes(file.content)
        code, _, said = manage("batch", "create", path, "--name", "news")
        if code == 0:
            assert_made(file)
            before = stored()
        else:
            assert code == 1, file.label
            assert_refused(file, "command", said.replace(printable(str(path)), ""), before)

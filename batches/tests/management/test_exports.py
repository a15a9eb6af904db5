"""What `manage.py batch export` writes can be imported again, and harms no spreadsheet."""

import csv
import io
import json
from datetime import UTC, datetime
from itertools import repeat
from operator import length_hint

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.lists.exports import COLUMNS, EXPORTERS, export_csv, export_jsonl, export_opml
from batches.lists.imports import ProfileAddress
from batches.lists.reading import read_profiles
from batches.models import Batch
from batches.reports import queries
from batches.reports.queries import Row
from batches.tests.support.factories import half_checked, profile_ids, urls

ROW = Row(
    id=1,
    profile_id=2,
    status="ok",
    error="",
    http_status=200,
    duration=0.25,
    has_story=True,
    checked_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    url="https://a.example/?a=1&b=2",
    name="A & B",
    feed_url="https://a.example/feed",
    etag='"1"',
    last_modified="",
)


def exported(format, *rows):
    return "".join(EXPORTERS[format](rows))


def imported(text, format):
    return read_profiles(text.encode(), format=format).profiles


@pytest.mark.parametrize("format", EXPORTERS)
def test_an_export_is_imported_as_the_same_profiles(format):
    rows = [ROW, ROW._replace(url="https://b.example/", name="\"quoted\", <tagged>; 'C'\tü 漢 😀")]
    profiles = imported(exported(format, *rows), format)
    assert [profile.url for profile in profiles] == [row.url for row in rows]
    assert [profile.name for profile in profiles] == ["A & B", "\"quoted\", <tagged>; 'C' ü 漢 😀"]


# What the database can hold.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)


@pytest.mark.parametrize("format", EXPORTERS)
@given(name=TEXTS, error=TEXTS)
def test_the_same_addresses_come_back_with_any_names_and_errors(format, name, error):
    rows = [ROW._replace(name=name, error=error), ROW._replace(url="https://b.example/")]
    assert [profile.url for profile in imported(exported(format, *rows), format)] == [ROW.url, "https://b.example/"]


def test_csv_has_a_column_for_each_value():
    rows = list(csv.DictReader(io.StringIO(exported("csv", ROW), newline="")))
    assert rows == [
        {
            "url": "https://a.example/?a=1&b=2",
            "name": "A & B",
            "status": "ok",
            "error": "",
            "http_status": "200",
            "duration": "0.25",
            "has_story": "True",
            "checked_at": "2026-01-02T03:04:05+00:00",
            "feed_url": "https://a.example/feed",
        }
    ]


def test_json_lines_have_the_same_values_with_their_types():
    line = json.loads(exported("jsonl", ROW._replace(checked_at=None, duration=None)))
    assert tuple(line) == COLUMNS
    assert (line["http_status"], line["has_story"], line["duration"], line["checked_at"]) == (200, True, None, None)


def test_opml_leaves_out_what_xml_cannot_say():
    (profile,) = imported(exported("opml", ROW._replace(name="a\x01\x1f\ufffeb")), "opml")
    assert profile == ProfileAddress(ROW.url, "ab")


def test_opml_names_a_profile_without_a_name_by_its_address():
    assert f'text="{ROW.url.replace("&", "&amp;")}"' in exported("opml", ROW._replace(name=""))


@pytest.mark.parametrize("export", [export_csv, export_jsonl, export_opml])
def test_a_row_is_written_before_the_next_one_is_read(export):
    rows = repeat(ROW, 1000)
    lines = export(rows)
    for _ in range(5):
        next(lines)
    assert length_hint(rows) >= 995


# -- The command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def batch(django_db_setup, db):
    """Three profiles: one ok with a new story, one failed, one pending."""
    return half_checked(Batch.Status.PAUSED)


@pytest.mark.django_db
@pytest.mark.parametrize("format", EXPORTERS)
def test_all_profiles_are_exported_in_the_order_of_their_import(format, batch, manage, monkeypatch):
    monkeypatch.setattr(queries, "STREAM_CHUNK", 2)
    output = manage("batch", "export", batch.pk, "--format", format)
    assert (output.code, output.err) == (0, "")
    assert [profile.url for profile in imported(output.out, format)] == urls(3)
    if format == "jsonl":
        rows = [json.loads(line) for line in output.out.splitlines()]
        assert [(row["status"], row["has_story"], row["http_status"], row["error"]) for row in rows] == [
            ("ok", True, 200, ""),
            ("failed", False, 500, "It answers with 500."),
            ("pending", False, None, ""),
        ]


@pytest.mark.django_db
def test_an_export_to_a_file_can_be_imported_as_the_same_batch(batch, manage, tmp_path):
    path = tmp_path / "it.csv"
    assert manage("batch", "export", batch.pk, "--output", path) == (0, "", "")
    assert path.read_bytes().startswith(b"url,name,status,")
    assert manage("batch", "create", path).code == 0
    again = Batch.objects.filter(status="queued").latest("created_at")
    assert profile_ids(again) == profile_ids(batch)


@pytest.mark.django_db
@pytest.mark.databases("sqlite")
def test_a_file_that_cannot_be_written_gets_one_sentence(batch, manage, tmp_path):
    for path, reason in [(tmp_path, "Is a directory"), (tmp_path / "no" / "a.csv", "No such file or directory")]:
        output = manage("batch", "export", batch.pk, "--output", path)
        assert output == (1, "", f"Cannot write {path}: {reason}")

"""What `manage.py batch export` writes can be imported again, and harms no spreadsheet."""

from collections import namedtuple
from datetime import UTC, datetime
from itertools import repeat
from operator import length_hint

import pytest

from batches.lists.exports import COLUMNS, EXPORTERS
from batches.lists.formats import read_profiles
from batches.models import Batch
from batches.reports import streams
from batches.tests.support.factories import half_checked, urls

ROW = namedtuple("Row", COLUMNS)(
    status="ok",
    error="",
    http_status=200,
    duration=0.25,
    has_story=True,
    checked_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    url="https://a.example/?a=1&b=2",
    name="A & B",
    feed_url="https://a.example/feed",
)


def exported(format, *rows):
    return "".join(EXPORTERS[format](rows))


#: Each format with the export of no profile, and what ROW adds to it.
WRITTEN = {
    "csv": (
        "url,name,status,error,http_status,duration,has_story,checked_at,feed_url\r\n",
        "https://a.example/?a=1&b=2,A & B,ok,,200,0.25,True,2026-01-02T03:04:05+00:00,https://a.example/feed\r\n",
    ),
    "jsonl": (
        "",
        '{"url": "https://a.example/?a=1&b=2", "name": "A & B", "status": "ok", "error": "", "http_status": 200, '
        '"duration": 0.25, "has_story": true, "checked_at": "2026-01-02T03:04:05+00:00", '
        '"feed_url": "https://a.example/feed"}\n',
    ),
    "opml": (
        '<?xml version="1.0" encoding="UTF-8"?>\n<opml version="2.0">\n<head><title>Profiles</title></head>\n<body>\n'
        "</body>\n</opml>\n",
        '<outline type="rss" text="A &amp; B" xmlUrl="https://a.example/?a=1&amp;b=2"/>\n',
    ),
}


@pytest.mark.parametrize("format", EXPORTERS)
def test_each_format_has_exactly_these_values(format):
    empty, line = WRITTEN[format]
    end = "</body>\n</opml>\n" if format == "opml" else ""
    assert exported(format) == empty
    assert exported(format, ROW) == empty.removesuffix(end) + line + end


@pytest.mark.parametrize(
    ("format", "values", "written"),
    [
        ("csv", {"checked_at": None, "duration": None}, ",200,,True,,"),
        ("jsonl", {"checked_at": None, "duration": None}, '"duration": null, "has_story": true, "checked_at": null'),
        ("opml", {"name": "a\x01\x1f\ufffeb"}, 'text="ab"'),  # XML cannot express the others
        ("opml", {"name": ""}, 'text="https://a.example/?a=1&amp;b=2"'),
    ],
)
def test_each_format_writes_missing_values_in_its_way(format, values, written):
    assert written in exported(format, ROW._replace(**values))


@pytest.mark.parametrize("export", EXPORTERS.values(), ids=EXPORTERS)
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
    monkeypatch.setattr(streams, "STREAM_CHUNK", 2)
    output = manage("batch", "export", batch.pk, "--format", format)
    assert (output.code, output.err) == (0, "")
    assert list(read_profiles(output.out.encode(), format=format).profiles) == urls(3)
    if format == "csv":
        assert [line.split(",", 2)[2].split(",", 3)[:3] for line in output.out.splitlines()[1:]] == [
            ["ok", "", "200"],
            ["failed", "It answers with 500.", "500"],
            ["pending", "", ""],
        ]


@pytest.mark.django_db
@pytest.mark.databases("sqlite")
def test_a_file_that_cannot_be_written_gets_one_sentence(batch, manage, tmp_path):
    for path, reason in [(tmp_path, "Is a directory"), (tmp_path / "no" / "a.csv", "No such file or directory")]:
        output = manage("batch", "export", batch.pk, "--output", path)
        assert output == (1, "", f"Cannot write {path}: {reason}")

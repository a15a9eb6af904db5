"""Recording results: each exactly once, and cleaned of whatever strangers send."""

import json
import math
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from hashlib import sha256
from http import HTTPStatus

import pytest
from django.utils import timezone as django_timezone

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult, Story
from batches.models import Batch, BatchLog, Profile, Queue, StoryResult
from batches.queue.sql import ROWS_AT_ONCE, as_json
from batches.tests.support.factories import (
    assert_consistent,
    everything,
    failed,
    make_batch,
    ok,
    profile_ids,
    record,
    record_one,
    remembered,
    row_statuses,
    start_run,
    values_of,
)
from batches.tests.support.tables import run_sql

pytestmark = pytest.mark.django_db


@pytest.fixture
@remembered
def run():
    return start_run(make_batch("it", 4))


def test_results_go_into_rows_profiles_stories_and_counters(run):
    before = django_timezone.now() - timedelta(seconds=5)
    one, two, three, four = profile_ids(run.batch)
    published = datetime(2026, 3, 1, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    stories = [Story("s1", "A title", "https://example.org/s1", published), Story("s2")]
    remembered = {
        "feed_url": "https://example.org/feed",
        "etag": '"1"',
        "last_modified": "Sun, 01 Mar 2026 10:30:00 GMT",
    }
    lines, version = BatchLog.objects.count(), Queue.objects.get().version
    record(
        run,
        [
            (one, CheckResult(True, http_status=200, duration=0.25, stories=stories, **remembered)),
            (two, ok(duration=1.5)),
            (three, failed("It answers with 500.", duration=2)),
        ],
    )
    columns = ("profile_id", "status", "error", "http_status", "duration", "has_story")
    rows = run.batch.profiles.order_by("pk")
    assert list(rows.values_list(*columns)) == [
        (one, "ok", "", 200, 0.25, True),
        (two, "ok", "", 200, 1.5, False),
        (three, "failed", "It answers with 500.", 500, 2.0, False),
        (four, "pending", "", None, None, False),
    ]
    moment, *others, nothing = rows.values_list("checked_at", flat=True)
    assert before < moment < before + timedelta(minutes=5)
    assert (others, nothing) == ([moment] * 2, None)
    answered, silent, failing, _ = Profile.objects.order_by("pk")
    assert {name: getattr(answered, name) for name in remembered} == remembered
    assert (answered.last_error, answered.last_duration) == ("", 0.25)
    assert answered.last_checked_at == answered.last_story_at == moment
    assert (silent.last_story_at, failing.last_error) == (None, "It answers with 500.")
    story = StoryResult.objects.get(story_id="s1", published_at=published)
    assert (story.profile_id, story.batch_id, story.title) == (one, run.batch.pk, "A title")
    assert (story.url, story.published_at) == ("https://example.org/s1", published)
    assert story.found_at > before
    now = values_of(run.batch.pk)
    counters = ("completed_profiles", "successful_checks", "failed_checks", "stories_found")
    assert tuple(now[name] for name in counters) == (3, 2, 1, 2)
    # Results are not logged, and the order of the queue is unchanged.
    assert (BatchLog.objects.count(), Queue.objects.get().version) == (lines, version)
    assert_consistent()


# Once


def test_a_profile_keeps_its_first_result_and_a_repetition_does_not_count_as_progress(run):
    one, two, *_ = profile_ids(run.batch)
    record(run, [(one, ok("s")), (two, failed())])
    before = everything()
    record(run, [(one, failed("another outcome")), (two, ok("another"))])
    assert without_lease(everything()) == without_lease(before)


def without_lease(tables):
    return {
        **tables,
        "Batch": [batch | {"run_seconds": None} for batch in tables["Batch"]],
        "Lease": [lease | {"lease_at": None, "run_seconds": None} for lease in tables["Lease"]],
    }


def test_the_last_of_several_results_for_a_profile_in_one_call_is_recorded(run):
    one = profile_ids(run.batch)[0]
    record(run, [(one, ok("s")), (one, ok("s")), (one, failed())])
    assert values_of(run.batch.pk)["completed_profiles"] == 1
    assert row_statuses(run.batch) == ["failed", "pending", "pending", "pending"]
    assert not StoryResult.objects.exists()
    assert_consistent()


def test_results_for_unknown_profiles_and_for_profiles_of_other_batches_are_ignored(run):
    other = make_batch("other", 5)
    stranger = other.profiles.order_by("pk")[4].profile_id
    record(run, [(stranger, ok("s", etag="x")), (10**15, ok("t")), (-1, ok()), (profile_ids(run.batch)[0], ok())])
    assert values_of(run.batch.pk)["completed_profiles"] == 1
    assert not StoryResult.objects.exists()
    assert Profile.objects.get(pk=stranger).etag == ""
    assert row_statuses(other) == ["pending"] * 5


def test_results_can_be_a_generator_and_the_id_a_text(run):
    results = ((pk, ok()) for pk in profile_ids(run.batch))
    assert BatchManager().record_results(str(run.batch.pk), run.run_token, results)
    assert row_statuses(run.batch) == ["ok"] * 4


# Stories


def stories_found(run):
    return Batch.objects.get(pk=run.batch.pk).stories_found


def test_a_story_is_new_once_for_its_profile_and_belongs_to_the_batch_that_found_it(run):
    first = record_one(run, ok("a", "b", "a"))
    assert BatchManager().complete_batch(run.batch.pk)
    again = start_run(BatchManager().repeat_batch(run.batch.pk))
    second = record_one(again, ok("a", "b", "c"))
    assert second.profile_id == first.profile_id
    assert (first.has_story, second.has_story) == (True, True)
    assert (stories_found(run), stories_found(again)) == (2, 1)
    assert sorted(StoryResult.objects.values_list("story_id", "batch")) == [
        ("a", run.batch.pk),
        ("b", run.batch.pk),
        ("c", again.batch.pk),
    ]
    assert BatchManager().complete_batch(again.batch.pk)
    assert BatchManager().queue_batch(again.batch.pk)
    third = record_one(start_run(again.batch), ok("a"))
    assert (third.profile_id, third.has_story, stories_found(again)) == (first.profile_id, False, 0)
    assert third.profile.last_story_at == second.profile.last_story_at


def test_the_stories_of_a_failed_check_are_ignored(run):
    row = record_one(run, CheckResult(False, "It broke.", stories=[Story("a")]))
    assert not row.has_story
    assert not StoryResult.objects.exists()


def test_a_missing_or_too_long_story_id_is_replaced_with_a_stable_hash_of_the_content(run):
    stories = [
        Story(""),
        Story(""),
        Story("", "one"),
        Story("", "two"),
        Story("x" * 256, "long"),
        Story("x" * 255 + "y" * 5000),
    ]
    record_one(run, CheckResult(True, stories=stories))
    assert stories_found(run) == 5
    assert {len(story.story_id) for story in StoryResult.objects.all()} == {64}
    empty = StoryResult.objects.get(title="", url="", story_id=sha256(b"\n\n").hexdigest())
    assert (str(empty), empty.published_at) == (empty.story_id, None)
    assert BatchManager().complete_batch(run.batch.pk)
    record_one(start_run(BatchManager().repeat_batch(run.batch.pk)), CheckResult(True, stories=stories))
    assert StoryResult.objects.count() == 5


@pytest.mark.parametrize(
    "story_id", ["x" * 255, "ü" * 255, "💥" * 255, " ", "a'b\"c\\d%s%(x)s{}", "\u2028\x01\x7f", "\x7f", "\u202ex"]
)
def test_a_story_id_that_fits_is_stored_unchanged(story_id, run):
    record_one(run, ok(story_id))
    assert StoryResult.objects.get().story_id == story_id


# What strangers send

HOSTILE = {
    "NUL": ("a\0b", "ab"),
    "lone surrogates": ("a\ud800b\udfff", "ab"),
    "1 MB": ("x" * 1_000_000, "x" * 2000),
    "1 MB of NUL": ("\0" * 1_000_000, ""),
    "quotes": ("""'"\\' OR 1=1 --""", """'"\\' OR 1=1 --"""),
    "placeholders": ("%s %(a)s {} $1 ?", "%s %(a)s {} $1 ?"),
    "JSON": ('"],["\\u0000', '"],["\\u0000'),
    "control characters": ("\x01\x1f\x7f\u2028", "\x01\x1f\x7f\u2028"),
    "far planes": ("💥\U0010ffff\uffff", "💥\U0010ffff\uffff"),
}


@pytest.mark.parametrize(("text", "stored"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_stored_clean_and_cut(text, stored, run):
    row = record_one(run, failed(text))
    assert row.error == row.profile.last_error == (stored or "The check failed without an error message.")
    story = Story(f"id{text}", text, text, None)
    row = record_one(run, CheckResult(True, error=text, stories=[story], feed_url=text, etag=text, last_modified=text))
    saved = StoryResult.objects.get()
    fits = len(stored) < 2000
    assert saved.title == stored[:500]
    assert saved.url == (stored if fits else "")
    assert saved.story_id == f"id{stored}" if fits else len(saved.story_id) == 64
    assert row.error == row.profile.last_error == ""
    # A validator that is too long cannot be sent back unchanged, so it is forgotten.
    assert (row.profile.etag, row.profile.last_modified) == ((stored, stored) if fits else ("", ""))
    assert row.profile.feed_url == (stored if fits else "")
    assert_consistent()


def test_texts_that_just_fit_are_not_cut(run):
    row = record_one(
        run,
        CheckResult(
            True,
            stories=[Story("i" * 255, "t" * 500, "u" * 2000)],
            feed_url="f" * 2000,
            etag="e" * 500,
            last_modified="m" * 500,
        ),
    )
    story = StoryResult.objects.get()
    assert (len(story.story_id), len(story.title), len(story.url)) == (255, 500, 2000)
    assert [len(getattr(row.profile, name)) for name in ("feed_url", "etag", "last_modified")] == [2000, 500, 500]


def test_a_profile_keeps_its_memory_until_a_check_replaces_it(run):
    memory = {"feed_url": "https://example.org/feed", "etag": '"1"', "last_modified": "yesterday", "fingerprint": "f"}
    profile = record_one(run, ok(**memory)).profile

    def again(result):
        assert BatchManager().complete_batch(run.batch.pk)
        assert BatchManager().queue_batch(run.batch.pk)
        record_one(start_run(run.batch), result)
        profile.refresh_from_db()
        return {name: getattr(profile, name) for name in memory}

    assert again(ok()) == memory
    assert again(failed()) == memory
    assert profile.last_error == "It answers with 500."
    assert again(ok(etag="")) == memory | {"etag": ""}
    assert profile.last_error == ""
    assert again(ok(etag='"2"', feed_url="")) == memory | {"etag": '"2"', "feed_url": ""}


PLUS_5 = timezone(timedelta(hours=5))
EDGE = timedelta(hours=23, minutes=59)

MOMENTS = {
    "in UTC": (datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)),
    "elsewhere": (datetime(2026, 1, 2, 3, tzinfo=PLUS_5), datetime(2026, 1, 1, 22, tzinfo=UTC)),
    "without an offset": (datetime(2026, 1, 2, 3), datetime(2026, 1, 2, 3, tzinfo=UTC)),
    "further from UTC than any place": (
        datetime(2026, 1, 2, tzinfo=timezone(EDGE)),
        datetime(2026, 1, 1, 0, 1, tzinfo=UTC),
    ),
    "an offset with seconds": (
        datetime(1890, 1, 1, tzinfo=timezone(timedelta(minutes=19, seconds=32))),
        datetime(1889, 12, 31, 23, 40, 28, tzinfo=UTC),
    ),
    "in the far future": (datetime(9000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)),
    "in the year 2": (datetime(2, 1, 1, tzinfo=PLUS_5), datetime(1, 12, 31, 19, tzinfo=UTC)),
    "a placeholder in UTC": (datetime(1, 12, 31, tzinfo=UTC), None),
    "another placeholder in UTC": (datetime(9999, 1, 1, tzinfo=UTC), None),
    "a placeholder at the beginning": (datetime.min.replace(tzinfo=PLUS_5), None),
    "a placeholder at the end": (datetime.max.replace(tzinfo=timezone(-EDGE)), None),
    "a placeholder without an offset": (datetime.min, None),
    "a day": (date(2026, 1, 2), None),
    "a text": ("yesterday", None),
    "unknown": (None, None),
}


@pytest.mark.parametrize(("published", "stored"), MOMENTS.values(), ids=MOMENTS.keys())
def test_times_of_publication_are_stored_in_utc_or_not_at_all(published, stored, run):
    record_one(run, CheckResult(True, stories=[Story("s", published=published)]))
    assert StoryResult.objects.get().published_at == stored


DURATIONS = [(0, 0.0), (0.125, 0.125), (3, 3.0), (5e-324, 5e-324), (1e6, 1e6)]
NO_DURATIONS = [math.inf, -math.inf, math.nan, -1.0, 1e308, 10**400]


@pytest.mark.parametrize(("duration", "stored"), DURATIONS + [(duration, 0.0) for duration in NO_DURATIONS])
def test_an_impossible_duration_is_stored_as_zero(duration, stored, run):
    assert record_one(run, ok(duration=duration)).duration == stored


STATUSES = [(200, 200), (999, 999), (100, 100), (HTTPStatus.NOT_FOUND, 404), (404.0, 404), (Decimal(410), 410)]
NO_STATUSES = [None, 0, -1, 99, 1000, 2**31, 2**63, 10**100, True, math.inf, math.nan]


@pytest.mark.parametrize(("status", "stored"), STATUSES + [(status, None) for status in NO_STATUSES])
def test_an_invalid_http_status_is_not_stored(status, stored, run):
    assert record_one(run, CheckResult(True, http_status=status)).http_status == stored


@pytest.mark.databases("postgresql")
def test_postgresql_updates_results_in_place():
    """HOT: no index on a column that changes, and room on the page. Otherwise every result grows each index."""
    run = start_run(make_batch("it", 2000))
    ids = profile_ids(run.batch)
    with counting_updates("batches_batchprofile") as counts:
        for first in range(0, len(ids), 500):
            record(run, [(profile_id, ok() if profile_id % 3 else failed()) for profile_id in ids[first : first + 500]])
    updated, in_place = counts
    assert updated == 2000
    assert in_place >= 0.85 * updated


@pytest.mark.databases("postgresql")
def test_postgresql_updates_a_profile_in_place_that_answers():
    """The indexes contain only failing and resting profiles, and further failures do not change them."""
    run = start_run(make_batch("it", 5))
    failing = profile_ids(run.batch)[0]
    Profile.objects.filter(pk=failing).update(
        last_error="It answers with 500.", failures=1, failing_since=django_timezone.now()
    )
    with counting_updates("batches_profile") as counts:
        record(run, [(pk, failed() if pk == failing else ok()) for pk in profile_ids(run.batch)])
    assert counts == [5, 5]


@contextmanager
def counting_updates(table):
    """The block's updates: all, and those that changed no index. The view may still include earlier transactions."""
    statement = f"SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = '{table}'"
    counts = []
    [before] = run_sql(statement)
    yield counts
    [after] = run_sql(statement)
    counts += [now - then for now, then in zip(after, before, strict=True)]


@pytest.mark.parametrize("number", [0, 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 2 * ROWS_AT_ONCE + 1])
def test_rows_are_one_json_array_however_many_they_are(number):
    rows = [[row, "a,b]", None] for row in range(number)]
    assert json.loads(as_json([tuple(row) for row in rows])) == rows

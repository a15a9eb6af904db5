"""Texts for people are in their language, and texts that programs compare are not."""

import subprocess
import sys
from datetime import timedelta

import pytest
from django.utils import timezone, translation
from django.utils.translation import trans_real

from batches.admin import chart, display, queue_content
from batches.admin.stored import stored
from batches.models import Action, Batch, BatchLog, ProfileList
from batches.queue.undo import UNDOABLE
from batches.reports.comparison import Change
from batches.reports.failures import Period
from batches.tests.support import pseudo
from batches.text import translate

from .conftest import batch_with, messages_of, press

#: Imports every module while nothing can be translated: the language is not known yet.
IMPORT_ALL = """
import pkgutil
from contextlib import suppress
import django
from django.utils import translation

def refuse(*texts):
    raise AssertionError(f"Write gettext_lazy there: {texts}")

translation.gettext = translation.ngettext = refuse
django.setup()
import batches
import batchproject.urls

for module in pkgutil.walk_packages(batches.__path__, "batches."):
    with suppress(ImportError):  # of packages that need not be installed
        if not module.name.startswith("batches.tests"):
            __import__(module.name)
"""


@pytest.fixture
def marked(monkeypatch):
    """A language that marks translated texts."""
    monkeypatch.setitem(trans_real._translations, pseudo.NAME, pseudo.Pseudo())
    with translation.override(pseudo.NAME):
        yield


def test_no_module_translates_when_it_is_imported():
    subprocess.run([sys.executable, "-c", IMPORT_ALL], check=True)


def test_a_text_that_is_nested_too_deeply_is_shown_unchanged():
    text = "x" + " hosts" * 600
    assert stored(text) == text


def test_the_log_in_words_changes_with_the_language_and_keeps_what_was_stored(marked):
    for action in Action:
        with translation.override("en"):
            english = str(action.label)
        for actor in ("", "ada"):
            for message in ("", "maintenance", "by worker w1: no heartbeat"):
                sentence = display.in_words(BatchLog(action=action, actor=actor, message=message))
                assert f"⟦{english}⟧" in sentence
                assert actor in sentence or message.startswith("by worker ")
                assert message.removeprefix("by worker ") in sentence
    assert set(queue_content.CHANGES) == UNDOABLE


def test_each_text_of_a_page_changes_with_the_language(marked):
    start = timezone.now()
    assert display.roughly(5) == "⟦a few seconds⟧"
    assert display.roughly(3600) == "⟦about 60 min⟧"
    assert "⟦3 h ago⟧" in display.relative(start - timedelta(hours=3), start)
    assert chart.in_words(1) == "⟦minute⟧"
    assert chart.in_words(14 * 24 * 60) == "⟦2 weeks⟧"
    assert [str(label) for label in Period.labels] == ["⟦today⟧", "⟦yesterday⟧", "⟦last 7 days⟧", "⟦any time⟧"]
    assert str(Change.RECOVERED.label) == "⟦recovered⟧"
    moved = BatchLog(from_status="queued", from_position=3, to_status="running", to_position=0)
    assert display.movement(moved) == "⟦queued⟧ 3 → ⟦running⟧"


def test_values_that_programs_compare_do_not_change_with_the_language(marked):
    assert [period.value for period in Period] == ["today", "yesterday", "week", "all"]
    assert 'class="batch-status done"' in display.status_label(Batch(status="done"))
    assert display.column("created_at", "⟦created⟧", display.moment).__name__ == "created_at"
    assert [share["name"] for share in chart.shares({"ok": 1, "failed": 1})] == ["ok", "failed"]


def test_a_schedule_changes_with_the_language(marked):
    found = ProfileList(schedule="30 6 * * *", delay_minutes=90, schedule_active=False)
    words = found.schedule_in_words
    assert words == "At 06:30 every day (UTC), up to 90 minutes later, off"
    assert all(f"⟦{part}⟧" in translate(words) for part in ("At 06:30 every day", "up to 90 minutes later", "off"))


@pytest.mark.django_db
def test_a_message_that_waits_for_the_next_page_is_translated(client, german):
    batch = batch_with("done")
    [(_, english)] = messages_of(press(client, "pause_batch", batch))
    [(_, translated)] = messages_of(press(client, "pause_batch", batch, headers={"Accept-Language": "de"}))
    assert english.startswith("“a batch” is done. Only a batch that is")
    assert translated.startswith("„a batch“ ")
    assert "Only" not in translated

"""Texts for people are in their language, and texts that programs compare are not."""

import ast
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone, translation
from django.utils.translation import trans_real

from batches.admin import chart, display, queue_content
from batches.admin.forms import ListForm
from batches.models import Action, Batch, BatchLog, ProfileList
from batches.queue.undo import UNDOABLE
from batches.reports.comparison import Change
from batches.reports.failures import Period
from batches.tests.docs.messages import parse_all
from batches.tests.support import pseudo
from batches.text import translate

from .conftest import batch_with, messages_of, press

#: They translate when they are called.
AT_ONCE = {"gettext", "ngettext", "pgettext", "npgettext"}


@pytest.fixture
def marked(monkeypatch):
    """A language that marks translated texts."""
    monkeypatch.setitem(trans_real._translations, pseudo.NAME, pseudo.Pseudo())
    with translation.override(pseudo.NAME):
        yield


def test_no_module_translates_when_it_is_imported():
    found = [f"{path}:{line}" for path, module in parse_all().items() for line in lines_translated_at_import(module)]
    assert not found, f"Write gettext_lazy there: the language is not known yet. {', '.join(found)}"


def lines_translated_at_import(module: ast.Module) -> Iterator[int]:
    names = {
        alias.asname or alias.name
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation"
        for alias in node.names
        if alias.name in AT_ONCE
    }
    for node in run_at_import(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node.lineno


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Without the bodies of functions, but with their decorators and the defaults of their arguments."""
    yield node
    body = node.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else ()
    for child in ast.iter_child_nodes(node):
        if child not in body and not isinstance(node, ast.Lambda):
            yield from run_at_import(child)


def test_a_translation_at_import_is_found():
    source = """
from django.utils.translation import gettext as _, gettext_lazy
TITLE = _("Title")
class Page:
    label, title = gettext_lazy("Label"), {"a": [_("Title")]}
    @display(_("Column"))
    def show(self, text=_("Default")):
        return _("Text")
NAME = lambda: _("Name")
"""
    assert sorted(lines_translated_at_import(ast.parse(source))) == [3, 5, 6, 7]


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


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"schedule": "30 6 * *"}, "schedule"),
        ({"time_zone": "Europe/Atlantis"}, "time_zone"),
        ({"delay_minutes": 1440}, "delay_minutes"),
    ],
)
def test_a_schedule_is_refused_beside_its_field_in_each_language(marked, values, field):
    filled = {"name": "News", "priority": "0", "checker": "feed", "schedule": "30 6 * * *", "time_zone": "UTC"}
    form = ListForm({**filled, "delay_minutes": "0", **values}, instance=ProfileList())
    assert list(form.errors) == [field]


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

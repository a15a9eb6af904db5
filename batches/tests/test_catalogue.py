"""The German catalogue: it has every text, and each is translated with the same placeholders."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from babel.messages.pofile import read_po
from django.conf import settings

from batches.tests.conftest import GERMAN, skip_or_fail
from batches.tests.docs.messages import parse_all

#: `%(name)s`, and `{name}` of format_html and of scripts.
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|\{\w+\}|%[sd%]")
TAG = re.compile(r"<[^>]+>")
END = re.compile(r"[.:…?]?\s*\Z")


def read(path: Path):
    with path.open("rb") as file:
        return read_po(file)


def forms(texts) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)


MESSAGES = [message for message in read(GERMAN) if message.id]


@pytest.mark.slow
def test_the_catalogue_has_the_texts_of_the_code_and_no_others(tmp_path):
    if not shutil.which("xgettext"):
        skip_or_fail("The package gettext is not installed.")
    for name in ("batches", "batchproject"):
        shutil.copytree(settings.BASE_DIR / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "batches.tests.support.messages"], cwd=tmp_path, check=True)
    collected = {forms(message.id) for message in read(tmp_path / GERMAN.relative_to(settings.BASE_DIR))}
    written = {forms(message.id) for message in read(GERMAN)}
    advice = "The catalogue is stale. Run: make messages"
    assert (sorted(collected - written), sorted(written - collected)) == ([], []), advice


def test_every_text_is_translated_a_count_in_both_forms_names_are_quoted_as_in_german_and_nobody_is_addressed():
    assert len(MESSAGES) > 400
    assert [message.id for message in MESSAGES if message.fuzzy or not all(forms(message.string))] == []
    assert [it.id for it in MESSAGES if len(forms(it.id)) > 1 and len(forms(it.string)) != 2] == []
    assert [it for message in MESSAGES for it in forms(message.string) if it.count("„") != it.count("“")] == []
    assert [it for message in MESSAGES for it in forms(message.string) if re.search(r"[a-zäöü]+en Sie\b", it)] == []


def test_every_translation_has_the_placeholders_and_the_elements_of_its_text():
    """And its end: a label stays a label, a sentence a sentence."""
    wrong = []
    for message in MESSAGES:
        if " " not in str(message.id):  # the German of “first” is “1.”
            continue
        of_text, of_translation = describe(message.id), describe(message.string)
        wrong += [] if of_text == of_translation else [(message.id, of_text, of_translation)]
    assert wrong == []


def describe(texts):
    return [(sorted(PLACEHOLDER.findall(it)), sorted(TAG.findall(it)), END.search(it)[0]) for it in forms(texts)]


def test_no_text_is_in_an_f_string():
    """xgettext does not look there."""
    marks = {"_", "gettext", "gettext_lazy", "ngettext", "pgettext", "Sentence", "choose_plural"}
    found = [
        f"{path}:{call.lineno}"
        for path, tree in parse_all().items()
        for text in ast.walk(tree)
        if isinstance(text, ast.JoinedStr)
        for call in ast.walk(text)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in marks
    ]
    assert found == []

"""A language that reveals untranslated texts: it wraps each text that passes gettext in ⟦…⟧."""

import gettext
import re
from collections.abc import Iterator

import lxml.html
from django.utils import translation
from django.utils.translation import trans_real

NAME = "x-pseudo"
#: Attributes that people read besides the texts of elements.
ATTRIBUTES = ("title", "placeholder", "aria-label", "aria-description", "alt", "summary", "label")
#: A text for a script has more than one word, unlike values of other attributes.
TEXT_OF_SCRIPT = re.compile(r"[^\W\d_]{2,}[ :.…]+[^\W\d_]")
SILENT = {"script", "style", "template"}


class Pseudo(gettext.NullTranslations):
    def gettext(self, message: str) -> str:
        return f"⟦{message.rpartition(trans_real.CONTEXT_SEPARATOR)[2]}⟧"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self.gettext(msgid1 if n == 1 else msgid2)

    def language(self) -> str:
        return NAME

    def to_language(self) -> str:
        return NAME


def install(monkeypatch) -> None:
    """Every request and every thread of this test speaks it."""
    monkeypatch.setitem(trans_real._translations, NAME, Pseudo())
    monkeypatch.setattr(translation, "get_language_from_request", lambda *_, **__: NAME)


def find_untranslated(page: str) -> Iterator[str]:
    """The texts of a page outside of ⟦…⟧."""
    document = lxml.html.fromstring(page)
    yield from outside("".join(iterate_texts(document)))
    for element in document.iter():
        for name, value in element.attrib.items():
            if name in ATTRIBUTES or is_button_text(element, name) or is_for_script(name, value):
                yield from outside(value)


def iterate_texts(document) -> Iterator[str]:
    """In the order of the page. An element that is not part of a sentence ends a text."""
    for event, element in lxml.etree.iterwalk(document, events=("start", "end", "comment")):
        if event == "start":
            yield "" if element.tag in SILENT else f"\n{element.text or ''}"
        elif event == "end":
            yield f"\n{element.tail or ''}"
        else:
            yield element.tail or ""


def is_button_text(element, name: str) -> bool:
    return name == "value" and element.tag == "input" and element.get("type") in {"submit", "button", "reset"}


def is_for_script(name: str, value: str) -> bool:
    return name.startswith("data-") and TEXT_OF_SCRIPT.search(value) is not None


def outside(text: str) -> Iterator[str]:
    depth, piece = 0, ""
    for letter in text + "⟦":
        if letter == "⟦":
            depth += 1
        if depth or letter == "\n":
            if words := " ".join(piece.split()):
                yield words
            piece = ""
        else:
            piece += letter
        if letter == "⟧":
            depth -= 1

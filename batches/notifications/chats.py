"""Sends a message through Apprise, an optional package that knows more than a hundred services.

It sends requests to any address: no guard limits its hosts.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import charset
from typing import Any

from batches.conf import install_command
from batches.limits import MAX_ERROR
from batches.models import WebhookDelivery
from batches.text import Sentence, clean_text, one_line

from .message_texts import word_letter
from .outbox import AttemptResult

MISSING = Sentence("Apprise is not installed. Run: %(command)s", command=install_command("apprise"))
#: Characters of a message. Services with a lower limit cut it themselves.
MAX_TEXT = 3_000
#: Texts that services read as mentions: “@everyone”, “<!channel>”.
MENTIONS = str.maketrans({"@": "@\u200b", "<": "<\u200b"})


class InvalidChat(ValueError):
    """`str(error)` says what to do. It does not quote the address, which is a secret."""


def open_chat(address: str) -> Any:
    """The service at this address. Raises InvalidChat."""
    try:
        import apprise
    except ImportError as error:
        raise InvalidChat(MISSING) from error
    with captured_log(), kept_charsets():
        chat = apprise.Apprise.instantiate(address)
    if chat is None:
        raise InvalidChat(Sentence("Apprise does not know this address. See the addresses at https://appriseit.com."))
    return chat


def send_chat(delivery: WebhookDelivery) -> AttemptResult:
    """Blocks."""
    assert delivery.subscription is not None
    address = delivery.subscription.address
    try:
        chat = open_chat(address)
    except InvalidChat as error:
        return AttemptResult(None, str(error))
    letter = word_letter(delivery)
    text = letter.text if len(letter.text) <= MAX_TEXT else f"{letter.text[:MAX_TEXT]}…"
    with captured_log() as lines:
        try:
            if chat.notify(body=text.translate(MENTIONS), title=letter.subject.translate(MENTIONS), body_format="text"):
                return AttemptResult(None)
        except Exception as error:  # its text and its traceback may have the address
            lines.append(type(error).__name__)
    reason = one_line(clean_text(" ".join(lines), MAX_ERROR).replace(address, delivery.subscription.shown_address))
    return AttemptResult(None, f"Apprise could not send it: {reason}" if reason else "Apprise could not send it")


@contextmanager
def captured_log() -> Iterator[list[str]]:
    """Collect the warnings of Apprise in this thread instead of logging them: only they have the reason for a failure,
    and they may quote an address."""
    logger, thread, lines = logging.getLogger("apprise"), threading.get_ident(), list[str]()

    def collect(record: logging.LogRecord) -> bool:
        if record.thread != thread:
            return True
        if record.levelno >= logging.WARNING:
            lines.append(record.getMessage())
        return False

    logger.addFilter(collect)
    try:
        yield lines
    finally:
        logger.removeFilter(collect)


@contextmanager
def kept_charsets() -> Iterator[None]:
    """Apprise changes how this process writes the headers of all e-mail when it loads its services. This undoes it."""
    kept = dict(charset.CHARSETS)
    try:
        yield
    finally:
        charset.CHARSETS.update(kept)

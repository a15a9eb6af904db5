"""Messages for users while the database is busy or unavailable."""

import logging
from typing import Any

from batches.models import OUTDATED, discard_connections, is_lock_timeout, is_outdated, is_unwritable
from batches.text import Sentence

logger = logging.getLogger(__name__)

#: Seconds until a client should retry.
RETRY_AFTER = 5

BUSY = Sentence("The queue is busy. Try again.")
UNAVAILABLE = Sentence("The database does not answer. Try again in a moment.")
UNWRITABLE = Sentence("The database accepts no changes: its disk is full, or it is read-only.")
POOLED = "A connection pool in front of it refuses our parameters. Set TRANSACTION_POOL=on."
CROWDED = "All of its connections are in use. Stop a worker process, or raise max_connections."
#: By a part of PostgreSQL's message.
ADVICE = {"unsupported startup parameter": POOLED, "too many clients": CROWDED, "remaining connection slots": CROWDED}


def report_outage(request: Any, error: Exception) -> str:
    """Log the error of a request, begin again with new connections, and return the message for the user."""
    logger.error("%s %s: database error: %s", request.method, request.path, str(error).strip())
    discard_connections()
    return describe_outage(error)


def describe_outage(error: BaseException) -> str:
    """Return a message without the database's own text, which may contain host names."""
    if is_outdated(error):
        return OUTDATED
    if is_lock_timeout(error):
        return BUSY
    return UNWRITABLE if is_unwritable(error) else UNAVAILABLE


def describe_outage_to_operator(error: BaseException) -> str:
    """Return a message for the terminal, with the database's own text."""
    if is_lock_timeout(error):
        return BUSY
    if is_outdated(error):
        return f"{OUTDATED} ({str(error).strip()})"
    advice = next((f" {advice}" for text, advice in ADVICE.items() if text in str(error)), "")
    happened = "accepts no changes" if is_unwritable(error) else "does not answer"
    return f"The database {happened}: {str(error).strip()}{advice}"

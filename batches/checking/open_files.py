"""The limit of open files: each connection is one."""

import logging
import resource

from .checkers.client import MAX_IDLE_CONNECTIONS

logger = logging.getLogger(__name__)

#: For the database, the log, name servers, parsers, and files of your own checkers.
OTHER_FILES = 150


def fit_concurrency(concurrency: int) -> int:
    """The number of concurrent checks that the open files allow, at most `concurrency`.

    Raises the limit if possible.
    """
    others = MAX_IDLE_CONNECTIONS + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= concurrency + others:
        return concurrency
    limit = concurrency + others if hard == resource.RLIM_INFINITY else min(concurrency + others, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    fitting = max(1, min(concurrency, limit - others))
    if fitting < concurrency:
        logger.warning(
            "This process may open %s files, and %s checks at once can need %s. It checks %s at once. "
            "Raise the limit (`ulimit -Hn`, or LimitNOFILE of systemd), or lower BATCHES_CONCURRENCY.",
            f"{limit:,}", f"{concurrency:,}", f"{concurrency + others:,}", f"{fitting:,}",
        )  # fmt: skip
    return fitting

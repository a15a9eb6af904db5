"""The batch, run, partition and request of a log line, as fields for a formatter."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

#: The known values of `batch_id`, `run_id`, `partition` and `request_id`.
CONTEXT: ContextVar[Mapping[str, object]] = ContextVar("CONTEXT", default=MappingProxyType({}))


@contextmanager
def log_context(**ids: object) -> Iterator[None]:
    """Lines within the block have these fields. Tasks inherit them; a thread does so with `copy_context().run`."""
    token = CONTEXT.set({**CONTEXT.get(), **ids})
    try:
        yield
    finally:
        CONTEXT.reset(token)


class ContextFilter(logging.Filter):
    """Adds these fields to the records of a handler.

    Django logs a response after the request, but passes the request.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        request_id = getattr(getattr(record, "request", None), "request_id", None)
        record.__dict__.update({"request_id": request_id} if request_id else CONTEXT.get())
        return True

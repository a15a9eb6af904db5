"""Which batch, run, partition and request a log line belongs to: fields for a formatter that writes them."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

#: By name: `batch_id`, `run_id`, `partition` and `request_id`, as far as they are known.
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
    """For a handler: gives its records these fields. Django logs an answer when the request is over, but names it."""

    def filter(self, record: logging.LogRecord) -> bool:
        request_id = getattr(getattr(record, "request", None), "request_id", None)
        record.__dict__.update({"request_id": request_id} if request_id else CONTEXT.get())
        return True

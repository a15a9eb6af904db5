"""Interruptions between the bounded transactions of a long call."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

#: Takes a function, and calls it between two chunks. The fixture `at_each_chunk` is one.
Watch = Callable[[Callable[[], Any]], None]


class Killed(BaseException):
    """Like a kill: no statement of the code under test is run afterwards."""


@contextmanager
def killed_at(number: int, watch: Watch) -> Iterator[None]:
    """The block is killed after this many chunks."""
    stored: list[bool] = []

    def run_while_alive(execute: Callable[..., Any], *arguments: Any) -> Any:
        if len(stored) == number:
            raise Killed
        return execute(*arguments)

    watch(lambda: stored.append(True))
    with pytest.raises(Killed), connection.execute_wrapper(run_while_alive):
        yield

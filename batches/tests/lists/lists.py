"""Helpers for the tests of this folder."""

import pytest

from batches.lists.imports import InvalidList
from batches.lists.reading import read_profiles


def brief(value):
    """A test's id from its argument, which may be megabytes long."""
    return repr(value)[:40]


def failure(content, **options):
    with pytest.raises(InvalidList) as error:
        read_profiles(content, **options)
    return str(error.value)

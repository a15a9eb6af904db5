import pytest

from batches.tests.support.hostile import hostile
from batches.tests.support.nameserver import names

__all__ = ["hostile", "names"]


@pytest.fixture
def before(monkeypatch):
    """Calls `action` with the same arguments before each call of `owner.name`."""

    def patch(owner, name, action):
        call = getattr(owner, name)

        def both(*arguments):
            action(*arguments)
            return call(*arguments)

        monkeypatch.setattr(owner, name, both)

    return patch

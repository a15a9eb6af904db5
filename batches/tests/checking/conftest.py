import pytest

from batches.batch_manager import BatchManager
from batches.tests.support.hostile import hostile
from batches.tests.support.nameserver import names

__all__ = ["hostile", "names"]


def of_many_hosts(profiles, name="it"):
    addresses = [f"https://{number}.example/" for number in range(profiles)]
    return BatchManager().create_batch(name, addresses, checker="scripted")


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

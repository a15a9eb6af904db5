import pytest

from batches.batch_manager import BatchManager


@pytest.fixture
def manager():
    return BatchManager("ada", "api")

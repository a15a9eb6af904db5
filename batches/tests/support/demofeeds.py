"""The feeds of the demo, at a fixed moment and without delays."""

import pytest

from batches.demo.server import FeedServer

#: 30 November 2026, noon.
MOMENT = 1_796_040_000.0


@pytest.fixture
def demo():
    """The host of the feeds, which is 127.0.0.1:8089 on the pages of the documentation."""
    with FeedServer(0, clock=lambda: MOMENT, pace=0) as server:
        yield f"127.0.0.1:{server.server_port}"

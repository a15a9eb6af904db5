"""The heartbeat after the end of its event loop."""

import asyncio
import threading
import time

from batches.checking import heartbeat as heartbeat_module
from batches.checking.heartbeat import Heartbeat
from batches.tests.support.processes import WAIT_SECONDS


def test_a_beat_that_returns_from_the_database_after_the_end_of_the_worker_does_nothing(monkeypatch):
    beats, ended = threading.Event(), threading.Event()
    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    monkeypatch.setattr(heartbeat_module, "INTERVAL", 0.001)

    def beat():
        beats.set()
        assert ended.wait(WAIT_SECONDS)
        heartbeat._loop.call_soon_threadsafe(print)

    async def work():
        async with heartbeat:
            assert await asyncio.to_thread(beats.wait, WAIT_SECONDS)

    callbacks = dict.fromkeys(("on_refused", "on_lapsed", "on_renewed"), lambda *_: None)
    heartbeat = Heartbeat(beat, renewed=time.monotonic(), lease=60.0, patience=60.0, **callbacks)
    asyncio.run(work())
    ended.set()
    heartbeat._thread.join(WAIT_SECONDS)
    assert raised == []

"""The heartbeat: a beat that takes long, and one after the end of its event loop."""

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


def test_checks_start_again_after_a_beat_during_which_the_lease_has_expired(monkeypatch):
    """Otherwise the worker would renew the lease for ever and check nothing."""
    lease, until_lapse = 600.0, 1.0
    monkeypatch.setattr(heartbeat_module, "INTERVAL", 0.001)
    lapsed = threading.Event()

    async def work():
        renewed = asyncio.Event()
        async with Heartbeat(
            lambda: lapsed.wait(WAIT_SECONDS),
            renewed=time.monotonic() - lease + until_lapse,
            lease=lease,
            patience=lease,
            on_refused=lambda refusal: None,
            on_lapsed=lapsed.set,
            on_renewed=renewed.set,
        ) as heartbeat:
            await asyncio.wait_for(renewed.wait(), WAIT_SECONDS)
            assert lapsed.is_set()
            assert heartbeat.is_valid

    asyncio.run(work())

"""The heartbeat: a beat that takes long, one after the end of its event loop, and those after a long freeze."""

import asyncio
import threading
import time

from batches.checking import heartbeat as heartbeat_module
from batches.checking.heartbeat import Heartbeat
from batches.tests.support.processes import WAIT_SECONDS, wait_until
from batches.tests.support.time import asynchronous

#: Callbacks.
NOTHING = dict.fromkeys(("on_refused", "on_lapsed", "on_renewed"), lambda *_: None)


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

    heartbeat = Heartbeat(beat=beat, renewed=time.monotonic(), lease=60.0, patience=60.0, **NOTHING)
    asyncio.run(work())
    ended.set()
    heartbeat._thread.join(WAIT_SECONDS)
    assert raised == []


@asynchronous
async def test_a_worker_that_was_frozen_for_too_long_renews_its_lease_again(monkeypatch, caplog):
    """Otherwise it would check nothing from then on, and wait for ever."""
    monkeypatch.setattr(heartbeat_module, "INTERVAL", 0.001)
    monkeypatch.setattr(heartbeat_module, "LOOP_INTERVAL", 0.001)
    beats = threading.Semaphore(0)

    beat = {"beat": lambda: not beats.release(), "renewed": time.monotonic()}
    async with Heartbeat(**beat, lease=60.0, patience=0.05, **NOTHING):
        wait_until(lambda: "The event loop has been blocked for more than 0.05 s." in caplog.text)
        while beats.acquire(blocking=False):
            pass  # those from before
        assert await asyncio.to_thread(beats.acquire, timeout=WAIT_SECONDS)


@asynchronous
async def test_checks_start_again_after_a_beat_during_which_the_lease_has_expired(monkeypatch):
    """Otherwise the worker would renew the lease for ever and check nothing."""
    lease, until_lapse = 600.0, 0.1
    monkeypatch.setattr(heartbeat_module, "INTERVAL", 0.001)
    lapsed, renewed = threading.Event(), asyncio.Event()
    async with Heartbeat(
        beat=lambda: lapsed.wait(WAIT_SECONDS),
        renewed=time.monotonic() - lease + until_lapse,
        lease=lease,
        patience=lease,
        **NOTHING | {"on_lapsed": lapsed.set, "on_renewed": renewed.set},
    ) as heartbeat:
        await asyncio.wait_for(renewed.wait(), WAIT_SECONDS)
        assert lapsed.is_set()
        assert heartbeat.is_valid

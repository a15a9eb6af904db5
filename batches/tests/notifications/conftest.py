"""Receivers, webhooks that lead to them, and a worker's deliveries in the test's own process."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone

from batches.conf import get_config
from batches.models import Webhook, WebhookDelivery
from batches.notifications.courier import Courier
from batches.tests.support.hostile import hostile, peak
from batches.tests.support.inside import canaries, canary
from batches.tests.support.working import commands, configure, script, server

from .receiver import Receiver

__all__ = ["canaries", "canary", "commands", "configure", "hostile", "peak", "script", "server"]


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def deliver(configure, caplog):
    """Delivers what is due, as a worker does at its end. Options are those of `Courier`, or keys of `BATCHES`."""
    caplog.set_level(logging.INFO, "batches")

    def deliver(grace_seconds=10.0, allowed_networks=("127.0.0.0/8",), **options):
        configure(grace_seconds=grace_seconds, allowed_networks=allowed_networks)

        async def run():
            courier = Courier(get_config(), database, asyncio.Event(), **options)
            courier.finish()
            await courier.work()

        with ThreadPoolExecutor(1) as thread:

            async def database(call, *arguments):
                return await asyncio.get_running_loop().run_in_executor(thread, call, *arguments)

            try:
                asyncio.run(run())
            finally:
                thread.submit(connections.close_all).result()

    return deliver


def make_webhook(url="https://example.org/hook", **values):
    return Webhook.objects.create(url=url, **values)


def deliveries(webhook=None):
    found = WebhookDelivery.objects.order_by("pk")
    return list(found if webhook is None else found.filter(webhook=webhook))


def only_delivery():
    [delivery] = deliveries()
    return delivery


def pass_time():
    """Until all that waits is due."""
    # SQLite's clock has milliseconds, Python's has more: its "now" may be in the other's future.
    WebhookDelivery.objects.waiting().update(next_attempt_at=timezone.now() - timedelta(seconds=1))


def seconds_to_wait(delivery):
    return (delivery.next_attempt_at - timezone.now()).total_seconds()

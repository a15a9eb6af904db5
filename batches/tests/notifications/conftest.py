"""Receivers, webhooks, and deliveries in the process of the test."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone
from standardwebhooks.webhooks import Webhook as Verifier

from batches.conf import get_config
from batches.models import Webhook, WebhookDelivery
from batches.notifications import outbox
from batches.notifications.courier import Courier
from batches.notifications.message_data import prepare_messages
from batches.notifications.message_texts import word_letter
from batches.tests.support.feedserver import WAIT_SECONDS, FeedServer, Reply
from batches.tests.support.inside import canary
from batches.tests.support.mailserver import MailServer
from batches.tests.support.nameserver import names

__all__ = ["canary", "names"]


@pytest.fixture
def receiver():
    """A server that responds with 200, unless a test sets something else."""
    with FeedServer() as server:
        server.otherwise = Reply()
        yield server


@pytest.fixture
def deliver(configure, caplog):
    """Delivers due messages, like a worker when it ends, however long that takes. `Courier` takes the other options."""
    caplog.set_level(logging.INFO, "batches")

    def deliver(allowed_networks=("127.0.0.0/8",), base_url="", **options):
        configure(grace_seconds=WAIT_SECONDS, allowed_networks=allowed_networks, base_url=base_url)

        async def run():
            courier = Courier(get_config(), database, asyncio.Event(), **options)
            courier.finish()
            await courier.work()

        with ThreadPoolExecutor(1) as thread:
            thread.submit(prepare_messages).result()

            async def database(call, *arguments):
                return await asyncio.get_running_loop().run_in_executor(thread, call, *arguments)

            try:
                asyncio.run(run())
            finally:
                thread.submit(connections.close_all).result()

    return deliver


@pytest.fixture
def mails(settings):
    """A mail server that accepts everything, unless a test sets something else."""
    with MailServer() as server:
        set_mail_server(settings, host="127.0.0.1", port=server.port)
        yield server


def set_mail_server(settings, **options):
    backend = "django.core.mail.backends.smtp.EmailBackend"
    if hasattr(settings, "MAILERS"):
        options = settings.MAILERS["default"].get("OPTIONS", {}) | options
        settings.MAILERS = {"default": {"BACKEND": backend, "OPTIONS": options}}
    else:
        settings.EMAIL_BACKEND = backend
        for name, value in options.items():
            setattr(settings, f"EMAIL_{name.upper()}", value)


@pytest.fixture
def no_retries(monkeypatch):
    """A failed delivery is not due again during the test, however slow the machine is."""
    monkeypatch.setattr(outbox, "BACKOFF", (3600,))


def letters():
    """The messages to send, as people read them."""
    prepare_messages()
    rows = WebhookDelivery.objects.claimable().select_related("subscription__list").order_by("pk")
    return [word_letter(row) for row in rows]


def make_webhook(url="https://example.org/hook", **values):
    return Webhook.objects.create(url=url, **values)


def deliveries(webhook=None):
    rows = WebhookDelivery.objects.order_by("pk")
    return list(rows if webhook is None else rows.filter(webhook=webhook))


def only_delivery():
    [delivery] = deliveries()
    return delivery


def pass_time(**which):
    """Make all waiting deliveries due, or those with these values."""
    # A second ago: SQLite's clock has only milliseconds, so Python's "now" may be in its future.
    due = timezone.now() - timedelta(seconds=1)
    WebhookDelivery.objects.waiting().filter(**which).update(next_attempt_at=due)


def verify(message, secret):
    """The content, verified by the published library, which raises if the signature is wrong."""
    return Verifier(secret).verify(message.body, dict(message.headers))


def seconds_to_wait(delivery):
    return (delivery.next_attempt_at - timezone.now()).total_seconds()

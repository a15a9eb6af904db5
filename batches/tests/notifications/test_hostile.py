"""Hostile receivers: only the head of a response is read, and it decides the outcome."""

import re

import pytest

from batches.notifications import outbox
from batches.tests.support.hostile import BROKEN, GIANT_HEAD, TOO_SLOW, attacks, peak

from .conftest import deliveries, make_webhook

FAILURES = "|".join((BROKEN, GIANT_HEAD, TOO_SLOW, r"^answered (101|302) "))


@pytest.mark.slow
@pytest.mark.databases("sqlite")
@pytest.mark.django_db(transaction=True)
def test_a_hostile_response_does_not_block_the_deliveries_and_only_its_head_is_read(hostile, deliver, no_retries):
    for url in hostile.urls.values():
        assert outbox.write_test_event(make_webhook(url))
    with peak(50_000_000):
        deliver(timeout=1.0, max_concurrent=1000)
    assert [hostile.hits("/secret"), hostile.hits("/chain/1")] == [0, 0]

    assert len(deliveries()) == len(attacks())
    for delivery in deliveries():
        assert delivery.attempts == 1
        if delivery.state == "delivered":
            assert (delivery.http_status, delivery.error) == (200, "")
        else:
            assert (delivery.state, bool(re.search(FAILURES, delivery.error))) == ("waiting", True), delivery.error

"""The limits of requests, and the response beyond them."""

import pytest
from django.test import RequestFactory
from rest_framework.request import Request
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle

from batches.api.throttling import AddressThrottle

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock(monkeypatch, settings):
    """The clock of the throttles, with 3 requests a minute for a user and 2 for an anonymous client."""
    now = [1_000_000.0]
    monkeypatch.setattr(SimpleRateThrottle, "timer", staticmethod(lambda: now[0]))
    settings.BATCHES = {"API_RATE": "3/minute", "API_ANONYMOUS_RATE": "2/minute"}
    return now


def statuses(client, count):
    return [client.get("/api/queue/").status_code for _ in range(count)]


def test_one_request_too_many_says_when_to_try_again(client, clock):
    assert statuses(client, 3) == [200] * 3
    clock[0] += 20.5
    answer = client.get("/api/queue/")
    assert (answer.status_code, answer.json()["code"]) == (429, "throttled")
    assert answer.json().keys() == {"code", "detail"}
    assert answer["Retry-After"] == "40"
    clock[0] += float(answer["Retry-After"])
    assert client.get("/api/queue/").status_code == 200


def test_every_request_counts_whatever_its_response(client, clock):
    codes = [client.get("/api/batches/x/").status_code, client.post("/api/batches/", {}).status_code]
    codes += [client.put("/api/queue/").status_code, client.get("/api/queue/").status_code]
    assert codes == [404, 400, 405, 429]


@pytest.mark.parametrize(
    ("path", "status", "headers"),
    [
        ("/api/queue/", 401, lambda number: {}),
        ("/api/queue/", 401, lambda number: {"Authorization": f"Token {number}"}),
        ("/api/queue/", 401, lambda number: {"X-Forwarded-For": f"10.0.0.{number}"}),  # can be forged
        ("/api/nonsense/", 404, lambda number: {}),
    ],
)
def test_an_anonymous_client_cannot_guess_for_ever(clock, path, status, headers):
    codes = [APIClient().get(path, headers=headers(number)).status_code for number in range(3)]
    assert codes == [status, status, 429]


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "10.0.0.1", "127.0.0.1"),
        (1, None, "127.0.0.1"),
        (1, "", "127.0.0.1"),
        (1, "forged, 10.0.0.1", "10.0.0.1"),
        (2, "forged,10.0.0.1 , 10.0.0.2", "10.0.0.1"),
        (2, "10.0.0.2", "10.0.0.2"),
        (1, "not an address", "not an address"),
        # One visitor has a network of IPv6 addresses.
        (1, "2001:db8:1:2::3", "2001:db8:1:2::/64"),
        (1, "2001:DB8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        (1, "2001:db8:1:3::3", "2001:db8:1:3::/64"),
        (1, "fe80::1%eth0", "fe80::/64"),
        (1, "::ffff:10.0.0.1", "10.0.0.1"),
    ],
)
def test_an_address_is_the_one_that_our_own_proxies_have_added(settings, proxies, forwarded, address):
    settings.BATCHES = {"API_PROXIES": proxies}
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    assert AddressThrottle().get_ident(Request(RequestFactory().get("/", headers=headers))) == address

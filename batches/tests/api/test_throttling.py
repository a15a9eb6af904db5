"""How many requests a user can make, and the answer to more of them."""

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from rest_framework.test import APIClient
from rest_framework.throttling import SimpleRateThrottle

from batchproject.settings import api_rate, env_number

from .conftest import make_user, token_client

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock(monkeypatch):
    """The clock of the throttles, with 3 requests a minute for a user and 2 for an anonymous client."""
    now = [1_000_000.0]
    monkeypatch.setattr(SimpleRateThrottle, "timer", staticmethod(lambda: now[0]))
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"user": "3/minute", "anon": "2/minute"})
    return now


def statuses(client, count, path="/api/queue/", **options):
    return [client.get(path, **options).status_code for _ in range(count)]


def test_one_request_too_many_is_told_when_to_try_again(client, clock):
    assert statuses(client, 3) == [200] * 3
    clock[0] += 20.5
    answer = client.get("/api/queue/")
    assert (answer.status_code, answer.json()["code"]) == (429, "throttled")
    assert answer.json().keys() == {"code", "detail"}
    assert answer["Retry-After"] == "40"
    clock[0] += float(answer["Retry-After"])
    assert client.get("/api/queue/").status_code == 200


def test_a_throttled_request_changes_nothing(client, clock, make_batch, everything):
    batch = make_batch()
    statuses(client, 3)
    before = everything()
    assert client.post(f"/api/batches/{batch.pk}/pause/").status_code == 429
    assert everything() == before


def test_each_user_has_a_rate_of_their_own(client, clock):
    assert statuses(client, 4)[-1] == 429
    assert token_client(make_user("view_batch")).get("/api/queue/").status_code == 200


def test_two_clients_of_one_user_share_a_rate(client, clock):
    other = APIClient()
    other.force_login(User.objects.get(username="root"))
    assert statuses(client, 2) + statuses(other, 2) == [200, 200, 200, 429]


def test_every_answer_counts(client, clock):
    codes = [client.get("/api/batches/x/").status_code, client.post("/api/batches/", {}).status_code]
    codes += [client.put("/api/queue/").status_code, client.get("/api/queue/").status_code]
    assert codes == [404, 400, 405, 429]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Token 0123"}])
def test_an_anonymous_client_cannot_guess_tokens_for_ever(clock, headers):
    assert statuses(APIClient(), 3, headers=headers) == [401, 401, 429]


def test_a_forged_x_forwarded_for_is_ignored(clock):
    codes = [statuses(APIClient(), 1, headers={"X-Forwarded-For": f"10.0.0.{n}"})[0] for n in range(3)]
    assert codes == [401, 401, 429]


def test_unknown_addresses_count_too(clock):
    assert statuses(APIClient(), 3, "/api/nonsense/") == [404, 404, 429]


def test_fifty_clients_can_poll_once_a_second(settings):
    requests, period = settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]["user"].split("/")
    assert (int(requests) >= 2 * 50 * 60, period) == (True, "minute")


@pytest.mark.parametrize(
    "text", ["fast", "100", "0/minute", "-1/minute", "100/fortnight", "1.5/second", "٣/minute", "/"]
)
def test_an_invalid_rate_is_reported_at_start(monkeypatch, text):
    monkeypatch.setenv("API_RATE", text)
    with pytest.raises(ImproperlyConfigured, match=r"API_RATE=.* is not a valid rate. Use 100/second"):
        api_rate("API_RATE", "1/second")


@pytest.mark.parametrize(("text", "rate"), [("", "5/day"), (" 10/Second ", "10/second"), ("off", None)])
def test_a_rate_comes_from_the_environment(monkeypatch, text, rate):
    monkeypatch.setenv("API_RATE", text)
    assert api_rate("API_RATE", "5/day") == rate


def test_a_rate_can_be_switched_off(client, clock, monkeypatch):
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"user": None, "anon": None})
    assert statuses(client, 10) == [200] * 10


@pytest.mark.parametrize("text", ["many", "-1", "1e3", "1.0"])
def test_an_invalid_number_of_proxies_is_reported_at_start(monkeypatch, text):
    monkeypatch.setenv("API_PROXIES", text)
    with pytest.raises(ImproperlyConfigured, match="API_PROXIES"):
        env_number("API_PROXIES", 0)

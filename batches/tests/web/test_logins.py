"""Guessing passwords: how many attempts an address and a name have, and what the next one costs."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from django.urls import path
from rest_framework.throttling import SimpleRateThrottle

from batches.conf import Config
from batchproject.urls import urlpatterns as project_urls

pytestmark = [pytest.mark.django_db, pytest.mark.databases("sqlite")]

urlpatterns = [*project_urls, path("staff/", admin.AdminSite("staff").urls)]


@pytest.fixture(autouse=True)
def clock(monkeypatch, settings):
    """The clock of the limits, with 3 attempts a minute."""
    now = [1_000_000.0]
    monkeypatch.setattr(SimpleRateThrottle, "timer", staticmethod(lambda: now[0]))
    settings.BATCHES = {"LOGIN_RATE": "3/minute"}
    settings.ROOT_URLCONF = __name__
    User.objects.create_superuser("root", password="right")
    cache.clear()
    yield now
    cache.clear()


@pytest.fixture(autouse=True)
def hashed(monkeypatch):
    passwords = []
    check = User.check_password
    monkeypatch.setattr(User, "check_password", lambda user, raw: passwords.append(raw) or check(user, raw))
    return passwords


def log_in(name="root", password="wrong", address="192.0.2.1", site="admin", client=None):
    fields = {"username": name, "password": password}
    return (client or Client()).post(f"/{site}/login/", fields, REMOTE_ADDR=address)


def statuses(attempts):
    return [log_in(**attempt).status_code for attempt in attempts]


@pytest.mark.parametrize(
    "attempts",
    [
        [{"name": f"user {number}"} for number in range(4)],
        [{"name": f"user {number}", "address": f"2001:db8:1:2:{number}::1"} for number in range(4)],
        [{"address": f"192.0.2.{number}"} for number in range(4)],
        # The names are equal to some databases, or to their users.
        [
            {"address": f"192.0.2.{number}", "name": name}
            for number, name in enumerate(["root", "ROOT ", "ｒoot", "rooT"])
        ],
        [{"site": site} for site in ("admin", "staff", "admin", "staff")],
        [{"name": f"{number}\0\n" * 100} for number in range(4)],
    ],
)
def test_after_three_attempts_from_an_address_or_with_a_name_the_next_is_refused(attempts):
    assert statuses(attempts) == [200, 200, 200, 429]


def test_the_refusal_hashes_nothing_and_says_when_to_try_again(clock, hashed):
    statuses([{}] * 3)
    clock[0] += 20.5
    response = log_in(password="right")
    assert (response.status_code, response["Retry-After"]) == (429, "40")
    assert "Try again in 40 seconds." in response.content.decode()
    assert hashed == ["wrong"] * 3
    clock[0] += 40
    assert log_in(password="right").status_code == 302
    assert hashed == [*["wrong"] * 3, "right"]


def test_an_address_that_is_refused_does_not_lock_others_out_of_a_name():
    statuses([{}] * 2 + [{"name": "other"}] + [{}] * 9)
    assert log_in(password="right", address="192.0.2.2").status_code == 302


def test_reading_the_form_and_being_logged_in_are_not_limited():
    client = Client()
    assert log_in(password="right", client=client).status_code == 302
    statuses([{}] * 9)
    assert {client.get("/admin/").status_code for _ in range(9)} == {200}
    assert {Client().get("/admin/login/").status_code for _ in range(9)} == {200}


def test_a_correct_password_does_not_count():
    assert statuses([{}] * 2 + [{"password": "right"}] * 9 + [{}] * 2) == [200] * 2 + [302] * 9 + [200, 429]


def test_a_wrong_password_counts_also_for_somebody_who_is_logged_in():
    client = Client()
    log_in(password="right", client=client)
    assert statuses([{"client": client}] * 4) == [200, 200, 200, 429]


def test_a_form_of_another_site_does_not_count():
    foreign = Client(enforce_csrf_checks=True)
    assert {log_in(client=foreign).status_code for _ in range(9)} == {403}
    assert log_in(password="right").status_code == 302


def test_the_limit_is_low_by_default_and_can_be_off(settings):
    assert Config().login_rate == "10/minute"
    settings.BATCHES = {"LOGIN_RATE": "off"}
    assert statuses([{}] * 12 + [{"password": "right"}]) == [200] * 12 + [302]

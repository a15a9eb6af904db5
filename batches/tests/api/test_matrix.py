"""Every call, by every role, for a batch in every status: who is let in, what is refused, and what it changes then."""

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from rest_framework.test import APIClient

from batches.tests.support.tables import every_table
from batches.tests.support.urlconf import every_address

from ..browser.pages import make_rows
from .calls import api_routes

# Who may do what does not depend on the database; what is then done has its tests on both.
pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db]

ROLES = {
    "anonymous": set(),
    "nobody": set(),
    "viewer": {"view"},
    "analyst": {"rows", "stories", "logs", "profiles"},
    "operator": {"view", "operate", "rows", "stories", "logs", "profiles"},
    "creator": {"add"},
    "editor": {"change"},
    "cleaner": {"delete"},
    "root": {"view", "operate", "add", "change", "delete", "rows", "stories", "logs", "profiles"},
}
METHODS = {"get", "post", "put", "patch", "delete"}  # of HEAD and OPTIONS: test_every_address.py
STATES = ("queued", "running", "paused", "done", "error")

OK, MADE, GONE, MISSING = 200, 201, 204, 404
ALWAYS = (OK,) * 5
RUNNING, QUEUED, FINISHED = "already_running", "already_queued", "finished"

# (method, route): the permission, the path, the body, and the answer for each of STATES: a status, or a 409's code.
CALLS = {
    ("get", "batch-list"): ("view", "batches/", None, ALWAYS),
    ("get", "batch-detail"): ("view", "batches/{pk}/", None, ALWAYS),
    ("get", "queue"): ("view", "queue/", None, ALWAYS),
    ("get", "batch-profiles"): ("rows", "batches/{pk}/profiles/", None, ALWAYS),
    ("get", "batch-stories"): ("stories", "batches/{pk}/stories/", None, ALWAYS),
    ("get", "batch-logs"): ("logs", "batches/{pk}/logs/", None, ALWAYS),
    # It repeats no batch.
    ("get", "batch-comparison"): ("view", "batches/{pk}/comparison/", None, (MISSING,) * 5),
    ("get", "batch-export"): ("rows", "batches/{pk}/export/csv/", None, ALWAYS),
    ("get", "batch-stories-export"): ("stories", "batches/{pk}/stories/export/csv/", None, ALWAYS),
    ("get", "profiles"): ("profiles", "profiles/", None, ALWAYS),
    ("get", "stories"): ("stories", "stories/", None, ALWAYS),
    ("post", "batch-list"): ("add", "batches/", {"name": "x", "profiles": ["https://example.org/"]}, (MADE,) * 5),
    ("patch", "batch-detail"): ("change", "batches/{pk}/", {"name": "x", "priority": 7}, ALWAYS),
    ("delete", "batch-detail"): ("delete", "batches/{pk}/", None, (GONE, RUNNING, GONE, GONE, GONE)),
    ("post", "batch-queue"): ("operate", "batches/{pk}/queue/", None, (OK, RUNNING, OK, OK, OK)),
    ("post", "batch-start"): ("operate", "batches/{pk}/start/", None, (OK, RUNNING, OK, FINISHED, FINISHED)),
    ("post", "batch-pause"): ("operate", "batches/{pk}/pause/", None, (OK, OK, OK, FINISHED, FINISHED)),
    ("post", "batch-move"): (
        "operate",
        "batches/{pk}/move/",
        {"position": 1},
        (OK, RUNNING, "not_queued", FINISHED, FINISHED),
    ),
    ("post", "batch-retry"): ("operate", "batches/{pk}/retry/", None, (QUEUED, RUNNING, OK, OK, OK)),
    ("post", "batch-repeat"): ("operate", "batches/{pk}/repeat/", None, (MADE,) * 5),
    ("post", "batch-bulk"): ("operate", "batches/bulk/", {"action": "pause", "ids": ["x"]}, ALWAYS),
    ("post", "queue-hold"): ("operate", "queue/hold/", {"reason": "maintenance"}, ALWAYS),
    ("post", "queue-release"): ("operate", "queue/release/", None, ALWAYS),
}
WRITING = {call: row for call, row in CALLS.items() if call[0] != "get"}


def test_every_call_is_in_the_matrix():
    assert set(api_routes()) == set(CALLS)


def shown(answer):
    return b"a file" if answer.streaming else answer.content[:200]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("role", ROLES)
def test_each_call_is_let_in_refused_or_done(client_for, make_batch, everything, role, state):
    client, batch = client_for(role), make_batch(state, failed=1)
    before = everything()
    for (method, route), (permission, path, body, answers) in CALLS.items():
        expected = answers[STATES.index(state)]
        with transaction.atomic():
            answer = getattr(client, method)(f"/api/v1/{path.format(pk=batch.pk)}", body)
            what = f"{method} {route}: {answer.status_code} {shown(answer)!r}"
            if role == "anonymous":
                assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated"), what
                assert answer["WWW-Authenticate"] == "Token"
            elif permission not in ROLES[role]:
                assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), what
            elif isinstance(expected, int):
                assert answer.status_code == expected, what
            else:
                assert (answer.status_code, answer.json()["code"]) == (409, expected), what
                assert answer.json()["detail"]
                assert (answer.json()["batch"]["id"], answer.json()["batch"]["status"]) == (str(batch.pk), state)
            if answer.status_code >= 400 or method == "get":
                assert everything() == before, what
            transaction.set_rollback(True)


@pytest.mark.parametrize(("method", "route"), WRITING, ids="-".join)
def test_a_session_without_the_csrf_token_writes_nothing(make_batch, everything, method, route):
    browser = APIClient(enforce_csrf_checks=True)
    browser.force_login(User.objects.create_superuser("ada"))
    _, path, body, _ = WRITING[method, route]
    path = path.format(pk=make_batch().pk)
    before = everything()
    answer = getattr(browser, method)(f"/api/v1/{path}", body)
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert "CSRF" in answer.json()["detail"]
    assert everything() == before


def test_what_is_no_call_is_refused_whoever_asks_and_changes_nothing(client_for, monkeypatch):
    """Each method that an address does not have."""
    monkeypatch.setattr("rest_framework.throttling.SimpleRateThrottle.allow_request", lambda *_: True)
    clients, addresses = (
        [client_for(role) for role in ("anonymous", "nobody", "viewer", "operator", "root")],
        every_address(make_rows()),
    )
    calls = [
        (address, method)
        for address in addresses
        if address.route.startswith("/api/v1/")
        for method in sorted(METHODS - methods_of(address))
    ]
    before = every_table()
    for client in clients:
        for address, method in calls:
            answer = getattr(client, method)(address.path, {"name": "x", "status": "done"})
            assert answer.status_code in {401, 403, 405}, (method, address)
    assert every_table() == before
    assert len(calls) > 70


def methods_of(address):
    """Those of a viewset's calls are in `actions`; the rest are views with methods of their own."""
    view = address.callback
    return set(getattr(view, "actions", None) or (name for name in METHODS if hasattr(view.cls, name)))


def test_a_checker_is_chosen_once(client, make_batch, everything):
    batch = make_batch()
    before = everything()
    answer = client.patch(f"/api/v1/batches/{batch.pk}/", {"checker": "http"})
    assert (answer.status_code, answer.json()["errors"].keys()) == (400, {"checker"})
    assert everything() == before

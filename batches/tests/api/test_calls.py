"""The promises of every call: roles, states, sessions, unknown ids, methods and fields. `calls` is the table."""

from collections import defaultdict
from dataclasses import replace
from itertools import product

import pytest
from django.db import transaction
from django.middleware.csrf import get_token
from django.test import RequestFactory
from rest_framework.test import APIClient
from rest_framework.views import APIView

from batches.models import BatchLog
from batches.tests.support.factories import undone

from .calls import CALLS, CREATED, LIST_ID, OF_A_BATCH, PATTERNS, STATES, WITH_BODY, WITH_ID, WRITING, Call, api_routes
from .conftest import errors_of, make_user, nothing_changes, refusal_of, token_client

# Permissions and bodies do not depend on the database; the effects of the calls are tested on both.
pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db]

METHODS = {"get", "post", "put", "patch", "delete"}
PERMISSIONS = {call.permission for call in CALLS}


@pytest.fixture(autouse=True)
def unthrottled(monkeypatch):
    monkeypatch.setattr("rest_framework.throttling.SimpleRateThrottle.allow_request", lambda *_: True)


def test_every_call_is_in_the_table_and_exists_with_the_version_and_without():
    assert sorted(api_routes()) == sorted(2 * [(call.method, call.route) for call in CALLS])


def test_no_view_takes_a_policy_from_the_settings_of_the_project():
    policies = [name for name in vars(APIView) if name.endswith(("_class", "_classes"))]
    owners = {
        (view, name): next(owner for owner in view.__mro__ if name in vars(owner))
        for view in {pattern.callback.cls for pattern in PATTERNS}
        for name in [*policies, "get_exception_handler", "schema"]
    }
    assert {"authentication_classes", "permission_classes", "throttle_classes"} < set(policies)
    assert [key for key, owner in owners.items() if not owner.__module__.startswith("batches.api.")] == []


@pytest.mark.parametrize("state", STATES)
def test_each_call_is_done_or_refused_with_a_described_code_by_the_status_of_the_batch(
    client, make_batch, a_list, described, state
):
    batch = make_batch(state, failed=1)
    with nothing_changes():
        for call in CALLS:
            expected = call.answers[STATES.index(state)]
            with transaction.atomic():
                answer = call.send(client, batch)
                if isinstance(expected, int):
                    assert answer.status_code == expected, call
                    assert ("Location" in answer) == (expected == CREATED), call
                else:
                    assert refusal_of(answer) == (409, expected), call
                    responses = described["paths"][f"/api/v1/{call.path.format(pk='{id}')}"][call.method]["responses"]
                    assert f"`{expected}`" in responses["409"]["description"], call
                if call in OF_A_BATCH and call in WITH_BODY and answer.status_code != 201:
                    batch_in_answer = answer.json() if answer.status_code == 200 else answer.json()["batch"]
                    assert batch_in_answer == client.get(f"/api/v1/batches/{batch.pk}/").json(), call
                # Only the changes of a write that was done are undone.
                is_done = call in WRITING and answer.status_code < 400
                if is_done and state == "paused":  # what it would create or delete may be there, or gone
                    assert call.send(client, batch).status_code < 500, call
                transaction.set_rollback(is_done)


@pytest.mark.parametrize("permission", sorted(PERMISSIONS))
def test_a_permission_allows_exactly_its_own_calls(make_batch, a_list, permission):
    batch = make_batch("paused", failed=1)
    without = token_client(make_user(*PERMISSIONS - {permission}, name="without"))
    client = token_client(make_user(permission))
    own = [call for call in CALLS if call.permission == permission]
    with nothing_changes():
        for call in own:
            answer = call.send(without, batch)
            assert refusal_of(answer) == (403, "permission_denied"), call
            assert f"batches.{permission}" in answer.json()["detail"], call
    for call in own:
        expected = call.answers[STATES.index("paused")]
        with undone():
            assert call.send(client, batch).status_code == (expected if isinstance(expected, int) else 409), call


def test_without_a_token_every_call_is_refused(make_batch, a_list):
    batch = make_batch("paused", failed=1)
    with nothing_changes():
        for call in CALLS:
            answer = call.send(APIClient(), batch)
            assert refusal_of(answer) == (401, "not_authenticated"), call
            assert answer["WWW-Authenticate"] == "Token"


def test_without_the_permission_nobody_learns_which_batches_and_lists_exist(make_batch, a_list):
    client, batch = token_client(make_user()), make_batch()
    for call in WITH_ID:
        unknown = call.send(client, "00000000-0000-0000-0000-000000000000")
        assert call.send(client, batch).content == unknown.content, call


# Tokens and sessions


@pytest.mark.parametrize(
    "header",
    ["Token", "Token 0123", "Token a b", "Token \0", "Token a\0b", "Token \xff\xfe", "Token " + "x" * 100_000],
    ids=range(7),
)
def test_an_invalid_token_is_refused(header):
    answer = APIClient().get("/api/batches/", headers={"Authorization": header})
    assert refusal_of(answer) == (401, "authentication_failed")
    assert answer["WWW-Authenticate"] == "Token"


def test_a_session_needs_the_csrf_token_for_a_change_and_a_token_needs_none(make_batch):
    batch, user = make_batch(), make_user("view_batch", "operate_batch", name="ada")
    browser, path = APIClient(enforce_csrf_checks=True), f"/api/batches/{batch.pk}"
    browser.force_login(user)
    assert browser.get(f"{path}/").status_code == 200
    answer = browser.post(f"{path}/pause/")  # `web/test_every_address` tries all of them
    assert refusal_of(answer) == (403, "permission_denied")
    assert "CSRF" in answer.json()["detail"]
    token = get_token(request := RequestFactory().get("/"))
    browser.cookies["csrftoken"] = request.META["CSRF_COOKIE"]
    assert browser.post(f"{path}/pause/", headers={"X-CSRFToken": token}).status_code == 200
    assert batch.logs.latest("pk").actor == "ada"
    assert token_client(user, APIClient(enforce_csrf_checks=True)).post(f"{path}/queue/").status_code == 200


def test_the_log_names_the_user_and_the_channel(client, make_batch, a_list):
    batch = make_batch("paused", failed=1)
    last, actions = BatchLog.objects.latest("pk").pk, set()
    for call in WRITING:
        with undone():
            call.send(client, batch)
            for line in BatchLog.objects.filter(pk__gt=last):
                assert (line.actor, line.channel) == ("root", "api"), call
                actions.add(line.action)
    assert actions == {
        *("create_batch", "rename_batch", "set_priority", "delete_batch", "queue_batch", "start_batch"),
        *("retry_failed", "repeat_batch", "undo_change", "hold_queue"),
        *("create_list", "change_list", "add_profiles", "remove_profiles", "sync_list", "correct_address"),
        *("run_list", "delete_list", "forget_profile", "create_feed", "revoke_feed"),
        *("subscribe", "change_subscription", "unsubscribe"),
    }


# Ids, methods and addresses

NOT_IDS = [
    *("00000000-0000-0000-0000-000000000000", "123", "None"),
    *("%00", "a%00b", "%FF"),
    *("%ED%A0%80", "%F0%9F%98%80", "%0A"),
    *("a.b", "' OR 1=1", "é"),
    "x" * 10_000,
]


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_an_unknown_id_is_not_found(client, step):
    with nothing_changes():
        for pk, call in product(NOT_IDS[::step], WITH_ID):
            answer = call.send(client, pk)
            assert refusal_of(answer) == (404, "not_found"), (call, pk)
            assert answer.json().keys() == {"code", "detail"}


def test_a_method_that_an_address_does_not_have_changes_nothing(client, make_batch, a_list):
    batch, methods = make_batch(), defaultdict(set)
    for call in CALLS:
        methods[call.path].add(call.method)
    with nothing_changes():
        for path, own in methods.items():
            for method in METHODS - own:
                call = Call(method, path, "", path, {"name": "x", "status": "done"})
                assert call.send(client, batch).status_code == 405, call
                assert call.send(APIClient(), batch).status_code == 401, call


NO_CALLS = [
    *("", "nonsense/", "batches", "batches/a/b/", "batches/a/b/c/", "%00", "%0A", "é/", "v1", "v1/"),
    *("v1/nonsense/", "v1/batches", "v1.5/", "v/", "v1x/batches/", "version/"),
]
UNKNOWN_VERSIONS = ["v2/batches/", "v2", "v0/batches/x/pause/", "v999999999/"]


@pytest.mark.parametrize("path", NO_CALLS + UNKNOWN_VERSIONS)
def test_an_address_without_a_call_is_not_found(client, path):
    detail = "No such address. The addresses of the API end with a slash."
    if path in UNKNOWN_VERSIONS:
        detail = f"The API has no version {path.partition('/')[0]}. Use v1."
    for method in ("get", "post", "delete", "options"):
        answer = getattr(client, method)(f"/api/{path}")
        assert (answer.status_code, answer.json()) == (404, {"code": "not_found", "detail": detail}), method


def test_every_call_responds_only_in_json(client, make_batch, a_list):
    batch = make_batch("done", failed=1)
    for call in CALLS:
        if "export" not in call.route:
            answer = call.send(client, batch, headers={"Accept": "text/csv"})
            assert refusal_of(answer) == (406, "not_acceptable"), call
    assert client.get("/api/batches/", headers={"Accept": "text/html,*/*;q=0.8"})["Content-Type"] == "application/json"


def test_no_body_takes_a_field_that_is_not_described(client, make_batch, a_list):
    batch = make_batch()
    with nothing_changes():
        for call in WITH_BODY:
            answer = call.send(client, batch, (call.body or {}) | {"status": "done", "position": 1, "list_id": LIST_ID})
            assert errors_of(answer) == {"status", "position", "list_id"} - (call.body or {}).keys(), call


def test_no_call_takes_a_parameter_that_is_not_described(client, make_batch, a_list):
    batch = make_batch("done", failed=1)
    with nothing_changes():
        for call in CALLS:
            answer = replace(call, path=f"{call.path}?dry_run=true").send(client, batch)
            assert errors_of(answer) == {"dry_run"}, call

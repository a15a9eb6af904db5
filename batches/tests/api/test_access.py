"""Who may make which call, and how the API knows who asks."""

import pytest
from django.contrib.auth.models import Permission, User
from django.middleware.csrf import get_token
from django.test import RequestFactory
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from batches.models import Batch, BatchLog

pytestmark = pytest.mark.django_db


LISTS = {
    "view_batchprofile": {"batches/{pk}/profiles/", "batches/{pk}/export/csv/"},
    "view_storyresult": {"batches/{pk}/stories/", "batches/{pk}/stories/export/csv/", "stories/"},
    "view_batchlog": {"batches/{pk}/logs/"},
    "view_profile": {"profiles/"},
}


@pytest.mark.parametrize("permission", LISTS)
def test_each_list_is_open_to_those_who_may_view_what_is_in_it(client_for, make_batch, permission):
    client = client_for("nobody")
    User.objects.get().user_permissions.add(Permission.objects.get(codename=permission))
    pk = make_batch().pk
    answers = {path: client.get(f"/api/{path.format(pk=pk)}").status_code for path in set.union(*LISTS.values())}
    assert answers == {path: 200 if path in LISTS[permission] else 403 for path in answers}


def test_nobody_learns_which_batches_exist(client_for, make_batch):
    client = client_for("nobody")
    known, unknown = f"/api/batches/{make_batch().pk}/", "/api/batches/00000000-0000-0000-0000-000000000000/"
    assert client.get(known).json() == client.get(unknown).json()


@pytest.mark.parametrize(
    "header",
    [
        "Token",
        "Token 0123",
        "Token a b",
        "Token \0",
        "Token a\0b",
        "Token \xff\xfe",
        pytest.param("Token " + "x" * 100_000, id="long"),
    ],
)
def test_a_token_that_is_none_is_refused(header):
    answer = APIClient().get("/api/batches/", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.json()["code"] == "authentication_failed"
    assert answer["WWW-Authenticate"] == "Token"


def test_the_token_of_somebody_who_was_locked_out_is_refused(client_for):
    client = client_for("operator")
    User.objects.update(is_active=False)
    assert client.get("/api/batches/").status_code == 401


@pytest.fixture
def browser():
    """A client that is logged in as a browser is, and that must show that it read the site."""
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("ada"))
    return client


def test_a_session_reads(browser):
    assert browser.get("/api/batches/").status_code == 200


def test_a_session_with_the_csrf_token_operates(browser, make_batch):
    batch = make_batch()
    token = get_token(request := RequestFactory().get("/"))
    browser.cookies["csrftoken"] = request.META["CSRF_COOKIE"]
    answer = browser.post(f"/api/batches/{batch.pk}/pause/", headers={"X-CSRFToken": token})
    assert answer.status_code == 200
    assert batch.logs.latest("pk").actor == "ada"


def test_a_token_needs_no_csrf_token(make_batch):
    client = APIClient(enforce_csrf_checks=True)
    token = Token.objects.create(user=User.objects.create_superuser("cron"))
    answer = client.post(f"/api/batches/{make_batch().pk}/pause/", headers={"Authorization": f"Token {token.key}"})
    assert answer.status_code == 200


def test_a_session_key_that_cannot_be_one_is_anonymous():
    client = APIClient()
    client.cookies["sessionid"] = "a\0" * 20
    assert client.get("/api/batches/").status_code == 401


def test_the_log_names_the_user_and_the_door(client_for, make_batch):
    batch = make_batch()
    client = client_for("operator")
    for call in ("queue", "start", "pause", "queue"):
        assert client.post(f"/api/batches/{batch.pk}/{call}/").status_code == 200
    client.post("/api/queue/hold/", {"reason": "maintenance"})

    entries = BatchLog.objects.filter(channel="api").order_by("pk")
    assert {entry.actor for entry in entries} == {"operator"}
    assert [(entry.action, entry.batch_id) for entry in entries] == [
        ("start_batch", batch.pk),
        ("pause_batch", batch.pk),
        ("queue_batch", batch.pk),
        ("hold_queue", None),
    ]


def test_the_log_names_who_created_a_batch(client_for):
    client_for("creator").post("/api/batches/", {"name": "new", "profiles": ["https://example.org/"]})
    entry = Batch.objects.get().logs.get()
    assert (entry.action, entry.actor, entry.channel) == ("create_batch", "creator", "api")

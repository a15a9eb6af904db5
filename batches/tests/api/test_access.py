"""Who may make which call, and how the API knows who asks."""

import pytest
from django.contrib.auth.models import Permission, User
from django.middleware.csrf import get_token
from django.test import RequestFactory
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from batches.models import Batch, BatchLog

pytestmark = pytest.mark.django_db

READS = {"list", "retrieve", "queue of all", "comparison"}
RESULTS = {"rows", "stories of one", "logs", "export", "export of stories", "profiles", "stories"}
OPERATIONS = {"queue", "start", "pause", "move", "retry", "repeat", "hold", "release"}

MAY = {
    "anonymous": set(),
    "nobody": set(),
    "viewer": READS,
    "analyst": RESULTS,
    "operator": READS | RESULTS | OPERATIONS,
    "creator": {"create"},
    "editor": {"change"},
    "cleaner": {"delete"},
    "root": READS | RESULTS | OPERATIONS | {"create", "change", "delete"},
}

CALLS = {
    "list": ("get", "/api/batches/", None, 200),
    "retrieve": ("get", "/api/batches/{pk}/", None, 200),
    "queue of all": ("get", "/api/queue/", None, 200),
    "comparison": ("get", "/api/batches/{pk}/comparison/", None, 404),
    "rows": ("get", "/api/batches/{pk}/profiles/", None, 200),
    "stories of one": ("get", "/api/batches/{pk}/stories/", None, 200),
    "logs": ("get", "/api/batches/{pk}/logs/", None, 200),
    "export": ("get", "/api/batches/{pk}/export/csv/", None, 200),
    "export of stories": ("get", "/api/batches/{pk}/stories/export/csv/", None, 200),
    "profiles": ("get", "/api/profiles/", None, 200),
    "stories": ("get", "/api/stories/", None, 200),
    "create": ("post", "/api/batches/", {"name": "new", "profiles": ["https://example.org/new"]}, 201),
    "change": ("patch", "/api/batches/{pk}/", {"priority": 5}, 200),
    "delete": ("delete", "/api/batches/{pk}/", None, 204),
    "queue": ("post", "/api/batches/{pk}/queue/", None, 200),
    "start": ("post", "/api/batches/{pk}/start/", None, 200),
    "pause": ("post", "/api/batches/{pk}/pause/", None, 200),
    "move": ("post", "/api/batches/{pk}/move/", {"position": 1}, 200),
    "retry": ("post", "/api/batches/{pk}/retry/", None, 409),
    "repeat": ("post", "/api/batches/{pk}/repeat/", None, 201),
    "hold": ("post", "/api/queue/hold/", {"reason": "maintenance"}, 200),
    "release": ("post", "/api/queue/release/", None, 200),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("role", MAY)
def test_each_call_is_open_to_the_roles_that_may_make_it(client_for, make_batch, everything, role, call):
    method, path, body, success = CALLS[call]
    path = path.format(pk=make_batch().pk)
    client = client_for(role)
    before = everything()

    answer = getattr(client, method)(path, body)

    if call in MAY[role]:
        assert answer.status_code == success
    elif role == "anonymous":
        assert answer.status_code == 401
        assert answer["WWW-Authenticate"] == "Token"
        assert answer.json()["code"] == "not_authenticated"
    else:
        assert answer.status_code == 403
        assert answer.json()["code"] == "permission_denied"
    if answer.status_code in {401, 403} or call in READS | RESULTS:
        assert everything() == before


@pytest.mark.parametrize(
    ("permission", "calls"),
    [
        ("view_batchprofile", {"rows", "export"}),
        ("view_storyresult", {"stories of one", "export of stories", "stories"}),
        ("view_batchlog", {"logs"}),
        ("view_profile", {"profiles"}),
    ],
)
def test_each_list_is_open_to_those_who_may_view_what_is_in_it(client_for, make_batch, permission, calls):
    client = client_for("nobody")
    User.objects.get().user_permissions.add(Permission.objects.get(codename=permission))
    pk = make_batch().pk
    answers = {call: client.get(CALLS[call][1].format(pk=pk)).status_code for call in RESULTS}
    assert answers == {call: 200 if call in calls else 403 for call in RESULTS}


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


def test_a_session_without_the_csrf_token_changes_nothing(browser, make_batch, everything):
    batch = make_batch()
    before = everything()
    answer = browser.post(f"/api/batches/{batch.pk}/pause/")
    assert answer.status_code == 403
    assert answer.json()["code"] == "permission_denied"
    assert "CSRF" in answer.json()["detail"]
    assert everything() == before


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

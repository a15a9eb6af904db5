"""Clients for each role, batches in each status, and what the pages show."""

import re
from itertools import count
from urllib.parse import urljoin

import lxml.html
import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import get_resolver, reverse

from batches.admin.base import ReadOnlyAdmin
from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult, Story
from batches.models import Batch
from batches.tests.support import factories

VIEW = ["view_batch", "view_batchprofile", "view_profile", "view_storyresult", "view_batchlog", "view_redirect"]
PERMISSIONS = {
    "staff": [],
    "viewer": VIEW,
    "operator": [*VIEW, "operate_batch"],
    "adder": ["view_batch", "add_batch"],
    "checker": [*VIEW, "add_batch"],
    "curator": [f"{action}_profilelist" for action in ("view", "add", "change", "delete")]
    + ["view_listprofile", "change_redirect"],
    "editor": ["view_batch", "change_batch", "delete_batch"],
}
SCRIPT = "<script>alert(1)</script>"
BY_SCRIPT = {"X-Requested-With": "fetch"}
NOTHING_LEFT = [("warning", "The selection is empty, or its rows have changed or been deleted. Select again.")]
LIST = reverse("admin:batches_batch_changelist")
QUEUE = reverse("admin:batches_batch_queue")
QUEUE_LIVE = reverse("admin:batches_batch_queue_live")
NUMBERS = count()
#: A time of day, which has a date unless it is today's.
TIME = r"(?:\d{4}-\d\d-\d\d )?\d\d:\d\d"
#: The models that have a page in the admin.
MODELS = [model for model in apps.get_app_config("batches").get_models() if admin.site.is_registered(model)]
READ_ONLY = [model for model in MODELS if isinstance(admin.site.get_model_admin(model), ReadOnlyAdmin)]


@pytest.fixture
def client_of():
    return client_as


@pytest.fixture
def client(client_of):
    """Has every permission."""
    return client_of("superuser")


def client_as(role, **options):
    """A client that is logged in with this role; `anonymous` is not logged in."""
    client = Client(**options)
    if role != "anonymous":
        client.force_login(user_of(role))
    return client


def client_with(*permissions):
    client = Client()
    client.force_login(user_with(permissions, "-".join(permissions) or "nobody"))
    return client


def user_of(role):
    if role == "superuser":
        return User.objects.create_superuser("superuser")
    return user_with(PERMISSIONS[role], role)


def user_with(permissions, name="somebody"):
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


# Batches


def urls(number):
    return [f"https://example.org/{next(NUMBERS)}" for _ in range(number)]


@factories.remembered
def batch_with(status="queued", *, name="a batch", ok=0, failed=0, pending=1, stories=(), priority=0):
    """A batch in this status with this many profiles of each outcome; the first ok one has these stories."""
    manager = BatchManager("maker")
    queue = status == "queued" and not ok and not failed
    batch = manager.create_batch(name, urls(ok + failed + pending), priority, queue=queue, count_first=True)
    if ok or failed or status == "running":
        assert manager.start_batch(batch.pk)
        results = [CheckResult(ok=True, stories=stories if index == 0 else ()) for index in range(ok)]
        results += [factories.failed("HTTP status 500")] * failed
        run = manager.claim_run("a worker")
        factories.record(run, zip(factories.profile_ids(batch), results, strict=False))
        assert status == "running" or manager.pause_batch(batch.pk)
    call = {"queued": "queue_batch", "done": "complete_batch"}.get(status)
    assert call is None or getattr(manager, call)(batch.pk)
    assert status != "error" or manager.handle_error(batch.pk, "the disk is full")
    return reread(batch)


def story(title="A story", url="https://news.example.org/1"):
    return Story(id=title, title=title, url=url)


def reread(batch):
    return Batch.objects.get(pk=batch.pk)


# Requests


def names_of_addresses():
    """The names of all addresses of the admin."""
    _, resolver = get_resolver().namespace_dict["admin"]
    return {name for name in resolver.reverse_dict if isinstance(name, str)}


def page_of(row, name="change", *args):
    return address(row, name, row.pk, *args)


def address(model, view, *args):
    return reverse(f"admin:batches_{model._meta.model_name}_{view}", args=args)


def press(client, call, row, **options):
    """A button of the page of a batch, a webhook or a delivery."""
    return client.post(page_of(row, "operate"), {"call": call}, follow=True, **options)


def press_in_queue(client, call, batch, **options):
    """The same button on the queue page."""
    return client.post(reverse("admin:batches_batch_queue_operate", args=[call, batch.pk]), follow=True, **options)


def act(client, action, *rows, url=LIST, **fields):
    """An action of a list, by default of the batches."""
    chosen = {"action": action, "_selected_action": [getattr(row, "pk", row) for row in rows]}
    return client.post(url, chosen | fields, follow=True)


def act_in_queue(client, call, *batches, **fields):
    """An action of the queue page's bar."""
    url = reverse("admin:batches_batch_queue_selected", args=[call])
    return client.post(url, {"selected": [batch.pk for batch in batches]} | fields, follow=True)


def send(client, page, address="", **changes):
    """The last form of a page as a browser sends it, with changes of its fields."""
    form, fields = document(page).forms[-1], {}
    for name, value in form.form_values():
        fields.setdefault(name, []).append(value)
    own = "{PATH_INFO}?{QUERY_STRING}".format(**page.request)
    return client.post(urljoin(own, address or form.action or ""), fields | changes, follow=True)


def listed(client, model, **query):
    """The rows of the model's list that match the query."""
    return list(client.get(address(model, "changelist"), query).context["cl"].result_list)


# Pages


def text_of(response):
    assert response.status_code == 200
    return response.content.decode()


def document(response):
    return lxml.html.fromstring(text_of(response))


def words(element):
    element = lxml.html.fromstring(element) if isinstance(element, str) else element
    return " ".join(" ".join(element.itertext()).split())


def parts(response):
    """The texts of the parts that live.js swaps, by their ids."""
    return {part.get("id"): words(part) for part in document(response).xpath("//*[@data-part]")}


def facts(response, section="batch-facts"):
    pairs = document(response).xpath(f"//*[@id='{section}']//dl/div")
    return {words(name): words(value) for name, value in pairs}


def hidden_fields(html):
    return dict(re.findall(r'<input type="hidden"[^>]* name="([\w-]+)" value="(.*?)"', html))


def messages_of(response):
    """Without their buttons."""
    shown = response.context["messages"]
    return [(message.level_tag, re.sub(" <button.*</button>", "", str(message))) for message in shown]


def queries_of(request):
    with CaptureQueriesContext(connection) as captured:
        request()
    return len(captured)

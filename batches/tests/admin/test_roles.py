"""Permissions: each address and each action of the admin against each role. Each must have a row in the tables."""

from functools import partial
from urllib.parse import urljoin

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from batches.admin.base import identify_rows
from batches.admin.queue_content import move_query
from batches.admin.redirects import QUESTION
from batches.batch_manager import BatchManager
from batches.lists.formats import read_profiles
from batches.models import (
    Attempt,
    Batch,
    BatchProfile,
    Host,
    ListProfile,
    Profile,
    ProfileList,
    Redirect,
    StoryResult,
    Subscription,
    Webhook,
    WebhookDelivery,
)
from batches.models.api import AccessToken
from batches.tests.support.factories import make_list, propose_redirect, subscribe, undone
from batches.tests.support.tables import every_column, every_table, stable_rows

from .conftest import READ_ONLY, batch_with, document, names_of_addresses, story

# Permissions do not depend on the database; the actions themselves are tested on both.
pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db]

EVERYBODY = {"anonymous", "staff", "viewer", "operator", "adder", "editor", "curator", "superuser"}
SEE_BATCHES = {"viewer", "operator", "adder", "editor", "superuser"}
SEE_ROWS = {"viewer", "operator", "superuser"}
OPERATE = {"operator", "superuser"}
ADD = {"adder", "superuser"}
EDIT = {"editor", "superuser"}
OF_SUPERUSERS = {"superuser"}
CURATE = {"curator", "superuser"}
STAFF = EVERYBODY - {"anonymous"}
NOBODY = set()

NEW = {
    "name": "new",
    "priority": "0",
    "checker": "feed",
    "addresses": "https://example.org/new",
    "queue": "on",
    "add": "Add batch",
    "previewed": read_profiles(b"https://example.org/new").digest,
}
#: The form of the action that creates a batch of profiles.
CONFIRMED = {"confirmed": "yes", "name": "new", "priority": "0", "checker": "feed"}
SCHEDULE = {"schedule": "0 6 * * *", "time_zone": "UTC", "delay_minutes": "0", "schedule_active": "on"}
LIST_CHANGED = {"name": "changed", "priority": "0", "checker": "feed", **SCHEDULE}
IMPORT = {
    "what": "add",
    "addresses": "https://example.org/new",
    "apply": "Change the list",
    "previewed": f"{NEW['previewed']} add 1",
}
ACCEPTED = {"action": "accept_selected", "_selected_action": "{redirect}", "confirmed": "{accepted}"}
REMOVED = {"action": "remove_selected", "_selected_action": "{member}", "confirmed": "{removed}"}
HOOK = {"name": "new", "url": "https://example.org/new", "is_active": "on", "every_batch": "on"}
TEST_HOOK = {"action": "send_test_events", "_selected_action": "{hook}"}
SUBSCRIPTION = {"topics": "error", "failed_percent": "10", "after_failures": "5", "digest_hour": "7", "is_active": "on"}
NEW_SUBSCRIPTION = {"list": "{list}", "channel": "email", "address": "new@example.org", **SUBSCRIPTION}
CHANGED = {"name": "changed", "initial-name": "it", "priority": "0", "initial-priority": "0"}
PASSWORD = {"usable_password": "true", "password1": "of-the-newcomer-1", "password2": "of-the-newcomer-1"}
PAUSE = {"call": "pause_batch"}
TOKEN = {"user": "{user}", "name": "n", "scope": "read"}
DELETION = {"post": "yes"}


def of_model(name, roles, **fields):
    """Django's own views of a model: these roles see them, and change something where a POST has fields."""
    views = ("changelist", "add", "change", "delete", "history")
    return {f"{name}_{view}": (roles, roles if view in fields else NOBODY, fields.get(view, {})) for view in views}


def read_only(model, roles):
    return {
        name: (NOBODY if name.endswith(("_add", "_delete")) else may_see, NOBODY, {})
        for name, (may_see, _, _) in of_model(f"batches_{model}", roles).items()
    }


def of_django(model, **own):
    return of_model(
        f"auth_{model}",
        OF_SUPERUSERS,
        changelist={"action": "delete_selected", "_selected_action": f"{{{model}}}", "post": "yes"},
        add=own | {"usable_password": "false"},
        change=own | {"date_joined_0": "2026-01-01", "date_joined_1": "12:00"},
        delete=DELETION,
    )


#: By the URL's name (and after a colon what it does): who sees it, who can change something with a POST, its fields.
ADDRESSES = {
    "index": (STAFF, NOBODY, {}),
    "app_list": (SEE_BATCHES | CURATE, NOBODY, {}),
    "batches_batch_changelist": (SEE_BATCHES, OPERATE, {"action": "pause_batches", "_selected_action": "{batch}"}),
    "batches_batch_add": (ADD, ADD, NEW),
    "batches_batch_change": (SEE_BATCHES, EDIT, CHANGED),
    "batches_batch_delete": (EDIT, EDIT, DELETION),
    "batches_batch_history": (SEE_BATCHES - SEE_ROWS, NOBODY, {}),  # others see the log
    "batches_batch_operate": (NOBODY, OPERATE, PAUSE),
    "batches_batch_live": (SEE_BATCHES, NOBODY, {}),
    "batches_batch_details": (SEE_BATCHES, NOBODY, {}),
    "batches_batch_export": (SEE_ROWS, NOBODY, {}),
    "batches_batch_today": (SEE_BATCHES, NOBODY, {}),
    "batches_storyresult_reading": (SEE_ROWS, SEE_ROWS, {"up_to": "{story}"}),
    "batches_storyresult_export": (SEE_ROWS, NOBODY, {}),
    "batches_profile_failures": (SEE_ROWS, NOBODY, {}),
    "batches_profile_export": (SEE_ROWS, NOBODY, {}),
    "batches_batch_queue": (SEE_BATCHES, NOBODY, {}),
    "batches_batch_queue_live": (SEE_BATCHES, NOBODY, {}),
    "batches_batch_dashboard_live": (SEE_BATCHES, NOBODY, {}),
    "batches_batch_queue_hold": (NOBODY, OPERATE, {"reason": "why"}),
    "batches_batch_queue_release": (NOBODY, OPERATE, {}),
    "batches_batch_queue_move": (NOBODY, OPERATE, {}),
    "batches_batch_queue_operate": (NOBODY, OPERATE, {}),
    "batches_batch_queue_selected": (NOBODY, OPERATE, {"selected": "{batch}"}),
    "batches_batch_queue_selected:delete": (NOBODY, EDIT, {"selected": "{batch}", "confirmed": "yes"}),
    "batches_batch_old": (EDIT, EDIT, {"selected": "{batch}", "confirmed": "yes"}),
    **of_model("batches_profilelist", CURATE, add=LIST_CHANGED, change=LIST_CHANGED, delete=DELETION),
    "batches_profilelist_history": ({"curator"}, NOBODY, {}),
    "batches_profilelist_import": (CURATE, CURATE, IMPORT),
    "batches_profilelist_run": (NOBODY, OPERATE, {}),
    "batches_profilelist_export": (CURATE, NOBODY, {}),
    **of_model("batches_listprofile", CURATE, changelist=REMOVED, change={"address": "https://example.org/corrected"}),
    "batches_listprofile_add": (NOBODY, NOBODY, {}),
    "batches_listprofile_delete": (NOBODY, NOBODY, DELETION),
    **of_model("batches_subscription", CURATE, add=NEW_SUBSCRIPTION, change=SUBSCRIPTION, delete=DELETION),
    "batches_subscription_operate": (NOBODY, CURATE, {"call": "send_test_message"}),
    **of_model("batches_listfeed", OF_SUPERUSERS, add={"list": "{list}", "name": "new"}, delete=DELETION),
    **read_only("profile", SEE_ROWS),
    **read_only("batchprofile", SEE_ROWS),
    **read_only("attempt", SEE_ROWS),
    **read_only("storyresult", SEE_ROWS),
    **read_only("batchlog", SEE_ROWS),
    **read_only("host", OF_SUPERUSERS),
    **read_only("webhookdelivery", OF_SUPERUSERS),
    **read_only("redirect", SEE_ROWS | CURATE),
    "batches_redirect_changelist": (SEE_ROWS | CURATE, CURATE, ACCEPTED),
    **of_model("batches_accesstoken", OF_SUPERUSERS, add=TOKEN, delete=DELETION),
    **of_model("batches_webhook", OF_SUPERUSERS, changelist=TEST_HOOK, add=HOOK, change=HOOK, delete=DELETION),
    "batches_webhook_operate": (NOBODY, OF_SUPERUSERS, {"call": "send_test_events"}),
    "batches_webhookdelivery_operate": (NOBODY, OF_SUPERUSERS, {"call": "reschedule_all"}),
    **of_django("user", username="new"),
    **of_django("group", name="new"),
    "auth_user_password_change": (OF_SUPERUSERS, OF_SUPERUSERS, PASSWORD),
}
#: Django's own addresses.
OF_DJANGO = {"login", "logout", "password_change", "password_change_done", "jsi18n", "autocomplete", "view_on_site"}

#: The roles for each action of each list.
ACTIONS = {
    **{
        (Batch, action): OPERATE
        for action in ("queue_batches", "start_batches", "pause_batches", "retry_batches", "repeat_batches")
    },
    (Batch, "delete_selected"): EDIT,
    (Profile, "check_selected"): ADD & SEE_ROWS,
    (Profile, "forget_selected"): OF_SUPERUSERS,
    (ListProfile, "remove_selected"): CURATE,
    (BatchProfile, "recheck_selected"): OPERATE,
    (Redirect, "accept_selected"): CURATE,
    (Webhook, "send_test_events"): OF_SUPERUSERS,
    (WebhookDelivery, "reschedule_all"): OF_SUPERUSERS,
    # Django's own, which it gives to every list.
    **{(model, "delete_selected"): OF_SUPERUSERS for model in (Webhook, User, Group)},
    **{(model, "delete_selected"): NOBODY for model in READ_ONLY},
}


@pytest.fixture
def batch():
    """The first of two waiting batches in a held queue. A webhook has a failed delivery for another one."""
    hook = Webhook.objects.create(url="https://example.org/hook")
    owner = User.objects.create_user("owner")
    AccessToken.objects.create(user=owner, name="nightly")
    User.objects.create_user("newcomer")
    Group.objects.create(name="a group")
    done = batch_with("done", ok=1, failed=1, stories=[story()])
    earlier = {"profile": Profile.objects.latest("pk"), "status": "failed", "checked_at": timezone.now()}
    Attempt.objects.create(batch=done, **earlier)
    subscribe(the_list := make_list("the list", 2))
    assert BatchManager().create_feed(the_list.pk, "a feed")
    propose_redirect("https://old.example/", "https://new.example/")
    Host.objects.create(name="a.example", not_before=timezone.now())
    batch = batch_with(name="it")
    batch_with(name="another")
    assert BatchManager().hold_queue("")
    hook.deliveries.update(next_attempt_at=None, error="It is gone.")
    return batch


def address(name, batch):
    arguments = {
        "app_list": ["batches"],
        "batches_batch_queue_operate": ["pause_batch", batch.pk],
        "batches_batch_queue_selected": ["pause_batch"],
        "batches_batch_queue_selected:delete": ["delete_batch"],
        "batches_batch_export": [batch.pk, "csv"],
        "batches_profile_export": ["csv"],
        "batches_storyresult_export": ["csv"],
        "batches_profilelist_export": [ProfileList.objects.get().pk, "csv"],
    }
    if name == "batches_batch_queue_move":
        return f"{reverse(f'admin:{name}', args=[batch.pk])}?{move_query(batch, 1)}"
    if name in arguments:
        return reverse(f"admin:{name.partition(':')[0]}", args=arguments[name])
    app, _, rest = name.partition("_")
    model, _, view = rest.partition("_")
    if view in {"change", "delete", "history", "operate", "live", "details", "password_change", "import", "run"}:
        row = batch if model == "batch" else newest(apps.get_model(app, model))
        return reverse(f"admin:{name}", args=[row.pk])
    return reverse(f"admin:{name}")


def newest(model):
    """Of users the newcomer, never the one who is logged in."""
    if model in {ProfileList, Subscription}:  # their IDs are random
        return model.objects.get()
    if model is BatchProfile:  # can be checked again
        return model.objects.filter(status="failed").latest("pk")
    return User.objects.get(username="newcomer") if model is User else model.objects.latest("pk")


def everything():
    """Every row of every table except sessions, which keep the messages for the next page."""
    return {table: rows for table, rows in every_table().items() if table != "django_session"}


class Watch:
    """Whether anything has changed: reads every table again only after a statement that may write."""

    READING = ("SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK")

    def __init__(self):
        self._before, self._may_have_written = everything(), False

    def __call__(self, execute, sql, *arguments):
        self._may_have_written |= not sql.startswith(self.READING) and "django_session" not in sql
        return execute(sql, *arguments)

    def sees_change(self):
        may_have, self._may_have_written = self._may_have_written, False
        return may_have and everything() != self._before


#: What a question says that it has shown, by its action.
DIGESTS = {
    "accept_selected": lambda _: identify_rows(Redirect.objects.proposed(), *QUESTION),
    "forget_selected": lambda found: identify_rows([found], "pk", "url"),
    "remove_selected": lambda member: identify_rows([member.list], "pk", "version"),
}
#: The rows that the fields of a POST name.
KEYS = {
    "batch": lambda batch: batch.pk,
    "hook": lambda _: Webhook.objects.get().pk,
    "user": lambda _: User.objects.get(username="newcomer").pk,
    "group": lambda _: Group.objects.get().pk,
    "list": lambda _: ProfileList.objects.get().pk,
    "member": lambda _: ListProfile.objects.latest("pk").pk,
    "redirect": lambda _: Redirect.objects.get().pk,
    "story": lambda _: StoryResult.objects.latest("pk").pk,
    "accepted": lambda _: DIGESTS["accept_selected"](None),
    "removed": lambda _: DIGESTS["remove_selected"](ListProfile.objects.latest("pk")),
}


def fields_of(name, batch):
    fields = ADDRESSES[name][2]
    return {key: KEYS[value[1:-1]](batch) if value.startswith("{") else value for key, value in fields.items()}


def post(client, name, batch, beside=None):
    return client.post(address(name, batch), (beside or {}) | fields_of(name, batch))


def test_every_address_and_every_action_is_in_the_tables():
    assert names_of_addresses() - OF_DJANGO == {name.partition(":")[0] for name in ADDRESSES}
    assert {(model, name) for model, name, _ in actions()} == set(ACTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("role", sorted(EVERYBODY))
def test_only_the_right_roles_see_each_page_and_only_a_post_of_the_right_roles_changes_something(
    client_of, batch, role
):
    client = client_of(role)
    with connection.execute_wrapper(watch := Watch()):
        for name, (may_see, may_do, fields) in ADDRESSES.items():
            if fields and role in {"anonymous", "superuser"}:  # a GET that does something would do it for one of them
                client.get(address(name, batch), fields_of(name, batch))
            response = client.get(address(name, batch))
            assert (response.status_code == 200) == (role in may_see), (name, response.status_code)
            assert response.status_code in {200, 302, 403, 404, 405}, name
            assert not watch.sees_change(), name
            with undone():
                response = post(client, name, batch)
                assert watch.sees_change() == (role in may_do), (name, response.status_code)
                assert response.status_code < 500, name


@pytest.mark.slow
@pytest.mark.parametrize("role", ["viewer", "adder", "curator"])
def test_no_page_links_to_a_page_that_its_reader_may_not_see(client_of, batch, role):
    assert BatchManager().run_list(ProfileList.objects.get().pk)
    client, found_on = client_of(role), {}
    for name in ADDRESSES:
        response = client.get(address(name, batch))
        if response.status_code == 200 and not response.streaming:
            for link in document(response).xpath("//a/@href"):
                found_on.setdefault(urljoin(address(name, batch), link).partition("#")[0], name)
    own = {link: name for link, name in found_on.items() if link.startswith("/admin/")}
    assert {link: name for link, name in own.items() if client.get(link).status_code in {403, 404}} == {}


def actions():
    """Each action of each list before permissions apply: model, name, function."""
    for model, site in admin.site._registry.items():
        if site.actions is None:  # of tokens: none at all
            continue
        for action in site._get_base_actions():
            # A tuple until Django 6.0.
            yield (model, action.name, action.func) if hasattr(action, "func") else (model, action[1], action[0])


@pytest.mark.slow
@pytest.mark.parametrize("role", sorted(EVERYBODY))
def test_only_the_right_roles_are_offered_an_action_and_can_use_it(client_of, batch, role):
    assert BatchManager().release_queue()
    paused = batch_with("paused", failed=1)
    WebhookDelivery.objects.update(next_attempt_at=None, error="It is gone.")
    client = client_of(role)
    models = {model for model, _ in ACTIONS}
    pages = {model: client.get(reverse(f"admin:{changelist_of(model)}")).content.decode() for model in models}
    with connection.execute_wrapper(watch := Watch()):
        for (model, action), may_do in ACTIONS.items():
            row = {"pause_batches": batch}.get(action, paused) if model is Batch else newest(model)
            assert (f'<option value="{action}"' in pages[model]) == (role in may_do), (model, action)
            with undone():
                choose(client, action, row)
                assert watch.sees_change() == (role in may_do), (model, action)


def changelist_of(model):
    return f"{model._meta.app_label}_{model._meta.model_name}_changelist"


def choose(client, action, row, beside=None):
    selected = {"_selected_action": row.pk, "selected": row.pk}
    chosen = (beside or {}) | {"action": action, "post": "yes", **selected, **CONFIRMED}
    if action in DIGESTS:
        chosen["confirmed"] = DIGESTS[action](row)
    return client.post(reverse(f"admin:{changelist_of(row)}"), chosen)


#: Optional fields that have the name of one of our columns.
ALSO_IN_FORM = {
    "batches_batch_add": ["count_first"],
    "batches_profilelist_add": ["count_first"],
    "batches_profilelist_change": ["count_first"],
    "auth_user_change": ["is_active"],
    "batches_accesstoken_add": ["expires_at"],
}


@pytest.mark.slow
def test_a_post_writes_only_the_columns_of_its_own_fields(client_of, batch):
    """All columns of all tables, sent beside the fields of a form or an action, change nothing."""
    client = client_of("superuser")
    with undone():
        assert BatchManager().release_queue()
        batch_with("running")  # with a lease
        columns = dict(every_column())
    with connection.execute_wrapper(watch := Watch()):
        find_effects = partial(effects, watch, client, columns)
        before = stable_rows()
        for name, (_, may_do, fields) in ADDRESSES.items():
            own = {*fields, *ALSO_IN_FORM.get(name, ())}
            done = find_effects(own, before, partial(post, client, name, batch))
            assert (len(done), "superuser" in may_do) in {(1, False), (2, True)}, name
        assert BatchManager().release_queue()
        paused = batch_with("paused", failed=1)
        WebhookDelivery.objects.update(next_attempt_at=None, error="It is gone.")
        before = stable_rows()
        rows = {"queue_batches": paused, "retry_batches": paused}
        for (model, action), may_do in ACTIONS.items():
            row = rows.get(action, batch) if model is Batch else newest(model)
            own = {"action", *CONFIRMED, "count_first"}
            done = find_effects(own, before, partial(choose, client, action, row))
            assert len(done) == 1 + ("superuser" in may_do), (model, action)


def effects(watch, client, columns, own, before, send):
    """The different states of the database: before, after the plain POST, after the POST with all columns."""
    session, found = client.cookies["sessionid"].value, [before]
    for beside in ({}, {name: value for name, value in columns.items() if name not in own}):
        with undone():
            send(beside)
            if watch.sees_change() and (after := stable_rows()) not in found:
                found.append(after)
        client.cookies["sessionid"] = session  # a new password asks for a new one
    return found

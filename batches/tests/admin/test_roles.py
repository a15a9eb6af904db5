"""Who may do what: each address of the admin against each role, and what holds for all addresses.

An address without a row in `ADDRESSES`, and an action without one in `ACTIONS`, fails.
"""

from contextlib import contextmanager

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import transaction
from django.urls import URLPattern, reverse

from batches.batch_manager import BatchManager
from batches.importers import read_profiles
from batches.models import (
    ApiToken,
    Batch,
    BatchLog,
    BatchProfile,
    Profile,
    Queue,
    StoryResult,
    Webhook,
    WebhookDelivery,
)
from batches.preview import digest

from .conftest import batch_with, story

# Who may do what does not depend on the database; what is then done has its tests on both.
pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db]

EVERYBODY = {"anonymous", "staff", "viewer", "operator", "adder", "editor", "superuser"}
SEE_BATCHES = {"viewer", "operator", "adder", "editor", "superuser"}
SEE_ROWS = {"viewer", "operator", "superuser"}
OPERATE = {"operator", "superuser"}
ADD = {"adder", "superuser"}
EDIT = {"editor", "superuser"}
OF_SUPERUSERS = {"superuser"}
STAFF = EVERYBODY - {"anonymous"}
NOBODY = set()

NEW = {
    "name": "new",
    "priority": "0",
    "checker": "feed",
    "addresses": "https://example.org/new",
    "queue": "on",
    "add": "Add batch",
    "previewed": digest(read_profiles(b"https://example.org/new")),
}
#: What the action that makes a batch of profiles asks for.
CONFIRMED = {"confirmed": "yes", "name": "new", "priority": "0", "checker": "feed"}
HOOK = {"name": "new", "url": "https://example.org/new", "is_active": "on"}
TEST_HOOK = {"action": "send_test_events", "_selected_action": "{hook}"}
CHANGED = {"name": "changed", "initial-name": "it", "priority": "0", "initial-priority": "0"}
PAUSE = {"call": "pause_batch"}

#: By the URL's name: who sees it, whom a POST with these fields changes something for, and the fields.
ADDRESSES = {
    "index": (STAFF, NOBODY, {}),
    "app_list": (SEE_BATCHES, NOBODY, {}),
    "batches_batch_changelist": (SEE_BATCHES, OPERATE, {"action": "pause_batches", "_selected_action": "{batch}"}),
    "batches_batch_add": (ADD, ADD, NEW),
    "batches_batch_change": (SEE_BATCHES, EDIT, CHANGED),
    "batches_batch_delete": (EDIT, EDIT, {"post": "yes"}),
    "batches_batch_history": (SEE_BATCHES, NOBODY, {}),
    "batches_batch_operate": (NOBODY, OPERATE, PAUSE),
    "batches_batch_live": (SEE_BATCHES, NOBODY, {}),
    "batches_batch_details": (SEE_BATCHES, NOBODY, {}),
    "batches_batch_export": (SEE_ROWS, NOBODY, {}),
    "batches_batch_queue": (SEE_BATCHES, NOBODY, {}),
    "batches_batch_queue_live": (SEE_BATCHES, NOBODY, {}),
    "batches_batch_queue_hold": (NOBODY, OPERATE, {"reason": "why"}),
    "batches_batch_queue_release": (NOBODY, OPERATE, {}),
    "batches_batch_queue_move": (NOBODY, OPERATE, {}),
    "batches_batch_queue_operate": (NOBODY, OPERATE, {}),
    "batches_batch_queue_selected": (NOBODY, OPERATE, {"selected": "{batch}"}),
    **{
        f"batches_{model}_{view}": (may_see if view in {"changelist", "change", "history"} else NOBODY, NOBODY, {})
        for model, may_see in {
            "profile": SEE_ROWS,
            "batchprofile": SEE_ROWS,
            "storyresult": SEE_ROWS,
            "batchlog": SEE_ROWS,
        }.items()
        for view in ("changelist", "add", "change", "delete", "history")
    },
    "batches_apitoken_changelist": (OF_SUPERUSERS, NOBODY, {}),
    "batches_apitoken_add": (OF_SUPERUSERS, OF_SUPERUSERS, {"user": "{user}"}),
    "batches_apitoken_change": (OF_SUPERUSERS, NOBODY, {}),
    "batches_apitoken_delete": (OF_SUPERUSERS, OF_SUPERUSERS, {"post": "yes"}),
    "batches_apitoken_history": (OF_SUPERUSERS, NOBODY, {}),
    "batches_webhook_changelist": (
        OF_SUPERUSERS,
        OF_SUPERUSERS,
        {"action": "send_test_events", "_selected_action": "{hook}"},
    ),
    "batches_webhook_add": (OF_SUPERUSERS, OF_SUPERUSERS, HOOK),
    "batches_webhook_change": (OF_SUPERUSERS, OF_SUPERUSERS, HOOK),
    "batches_webhook_delete": (OF_SUPERUSERS, OF_SUPERUSERS, {"post": "yes"}),
    "batches_webhook_history": (OF_SUPERUSERS, NOBODY, {}),
    "batches_webhook_operate": (NOBODY, OF_SUPERUSERS, {"call": "send_test"}),
    "batches_webhookdelivery_changelist": (OF_SUPERUSERS, NOBODY, {}),
    "batches_webhookdelivery_add": (NOBODY, NOBODY, {}),
    "batches_webhookdelivery_change": (OF_SUPERUSERS, NOBODY, {}),
    "batches_webhookdelivery_delete": (NOBODY, NOBODY, {}),
    "batches_webhookdelivery_history": (OF_SUPERUSERS, NOBODY, {}),
    "batches_webhookdelivery_operate": (NOBODY, OF_SUPERUSERS, {"call": "deliver_again"}),
}
#: Of the admin itself and of Django's own models, which Django tests.
OF_DJANGO = {"login", "logout", "password_change", "password_change_done", "autocomplete", "jsi18n", "view_on_site"}

#: Each action of our lists: who may use it.
ACTIONS = {
    "queue_batches": OPERATE,
    "start_batches": OPERATE,
    "pause_batches": OPERATE,
    "retry_batches": OPERATE,
    "repeat_batches": OPERATE,
    "delete_selected": EDIT,
    "check_selected": ADD & SEE_ROWS,  # who sees no profiles can select none
    "send_test_events": OF_SUPERUSERS,
    "deliver_all_again": OF_SUPERUSERS,
}


def patterns(urls):
    for pattern in urls:
        if isinstance(pattern, URLPattern):
            yield pattern
        else:
            yield from patterns(pattern.url_patterns)


def names_of_ours():
    names = {pattern.name for pattern in patterns(admin.site.urls[0]) if pattern.name}
    return {name for name in names if not name.startswith(("auth_", "authtoken_"))} - OF_DJANGO


@pytest.fixture
def batch():
    """The first of two that wait, in a queue that is held; a webhook was told of another in vain."""
    hook = Webhook.objects.create(url="https://example.org/hook")
    ApiToken.objects.create(user=User.objects.create_user("owner"))
    User.objects.create_user("newcomer")
    batch_with("done", ok=1, failed=1, stories=[story()])
    batch = batch_with(name="it")
    batch_with(name="another")
    assert BatchManager().hold_queue("")
    hook.deliveries.update(next_attempt_at=None, error="It is gone.")
    return batch


MODELS = (Batch, BatchProfile, Profile, StoryResult, BatchLog, Queue, Webhook, WebhookDelivery, ApiToken, LogEntry)


def address(name, batch):
    rows = {model._meta.model_name: model for model in MODELS}
    arguments = {
        "app_list": ["batches"],
        "batches_batch_queue_move": [batch.pk, 2, Queue.objects.get().version],
        "batches_batch_queue_operate": ["pause_batch", batch.pk],
        "batches_batch_queue_selected": ["pause_batch"],
        "batches_batch_export": [batch.pk, "csv"],
    }
    if name in arguments:
        return reverse(f"admin:{name}", args=arguments[name])
    model, _, view = name.removeprefix("batches_").partition("_")
    if view in {"change", "delete", "history", "operate", "live", "details"}:
        row = batch if model == "batch" else rows[model].objects.latest("pk")
        return reverse(f"admin:{name}", args=[row.pk])
    return reverse(f"admin:{name}")


def everything():
    """Every row that a page of the admin could change."""
    return [list(model._base_manager.order_by("pk").values()) for model in MODELS]


def keys(batch):
    """The rows that a POST's fields name."""
    user = User.objects.filter(username="newcomer").first()
    return {
        "batch": batch.pk,
        "hook": Webhook.objects.get().pk,
        "user": user.pk if user else "",
    }


def post(client, name, batch):
    fields = {key: value.format(**keys(batch)) for key, value in ADDRESSES[name][2].items()}
    return client.post(address(name, batch), fields)


def test_every_address_and_every_action_is_in_the_tables():
    assert names_of_ours() == set(ADDRESSES)
    ours = [site for model, site in admin.site._registry.items() if model._meta.app_label == "batches"]
    assert {action for site in ours for action in site.actions or ()} == set(ACTIONS)


@pytest.mark.parametrize("role", sorted(EVERYBODY))
def test_each_page_is_shown_to_whom_it_is_for_and_seeing_it_changes_nothing(client_of, batch, role):
    client, before = client_of(role), everything()
    for name, (may_see, _, _) in ADDRESSES.items():
        response = client.get(address(name, batch))
        assert (response.status_code == 200) == (role in may_see), (name, response.status_code)
        assert response.status_code in {200, 302, 403, 404, 405}, name
        assert everything() == before, name


@pytest.mark.parametrize("role", sorted(EVERYBODY))
def test_a_post_does_what_the_role_may_and_else_nothing(client_of, batch, role):
    client, before = client_of(role), everything()
    for name, (_, may_do, _) in ADDRESSES.items():
        with undone():
            response = post(client, name, batch)
            assert (everything() != before) == (role in may_do), (name, response.status_code)
            assert response.status_code < 500, name


@contextmanager
def undone():
    """As if it had not happened: each address starts from the same rows."""
    savepoint = transaction.savepoint()
    yield
    transaction.savepoint_rollback(savepoint)


def test_a_get_that_carries_the_fields_of_a_post_changes_nothing(client_of, batch):
    client, before = client_of("superuser"), everything()
    for name, (_, _, fields) in ADDRESSES.items():
        client.get(address(name, batch), {key: value.format(**keys(batch)) for key, value in fields.items()})
        assert everything() == before, name


def test_no_other_method_changes_anything(client_of, batch):
    client, before = client_of("superuser"), everything()
    for name in ADDRESSES:
        for method in ("head", "options", "put", "patch", "delete", "trace"):
            assert getattr(client, method)(address(name, batch)).status_code < 500, (name, method)
        assert everything() == before, name


def test_every_change_bears_the_name_of_who_made_it(client_of, batch):
    for name in ("batches_batch_change", "batches_batch_queue_move", "batches_batch_operate", "batches_batch_add"):
        User.objects.all().delete()
        last = BatchLog.objects.latest("pk").pk
        post(client_of("superuser"), name, batch)
        lines = BatchLog.objects.filter(pk__gt=last)
        assert {(line.actor, line.channel) for line in lines} == {("superuser", "admin")}, name


def test_no_post_is_taken_from_another_site(client_of, batch):
    client, before = client_of("superuser", enforce_csrf_checks=True), everything()
    for name in ADDRESSES:
        assert post(client, name, batch).status_code == 403, name
    assert everything() == before


def test_every_action_declares_who_may_use_it():
    """One that declares nothing is open to whoever may see the list."""
    for model, site in admin.site._registry.items():
        if model._meta.app_label != "batches":
            continue
        for name in site.actions or ():
            function, _, _ = site.get_action(name)
            assert getattr(function, "allowed_permissions", None), f"{name} of {model.__name__} declares nothing."


@pytest.mark.parametrize("role", sorted(EVERYBODY))
def test_an_action_works_for_whom_it_is_for(client_of, batch, role):
    assert BatchManager().release_queue()
    paused = batch_with("paused", failed=1)
    rows = {
        "pause_batches": batch,
        "check_selected": Profile.objects.latest("pk"),
        "send_test_events": Webhook.objects.get(),
        "deliver_all_again": WebhookDelivery.objects.get(),
    }
    client = client_of(role)
    before = everything()
    for action, may_do in ACTIONS.items():
        row = rows.get(action, paused)
        with undone():
            chosen = {"action": action, "_selected_action": row.pk, "post": "yes", **CONFIRMED}
            client.post(reverse(f"admin:batches_{row._meta.model_name}_changelist"), chosen)
            assert (everything() != before) == (role in may_do), action

"""Profiles, their results, stories and the log: to be found and read, never to be changed."""

import pytest
from django.urls import reverse

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, BatchProfile, Profile, StoryResult

from .conftest import batch_with, queries_of, story, text_of

pytestmark = pytest.mark.django_db

MODELS = [Profile, BatchProfile, StoryResult, BatchLog]
models = pytest.mark.parametrize("model", MODELS)


def address(model, view, *args):
    return reverse(f"admin:batches_{model._meta.model_name}_{view}", args=args)


def found(client, model, **query):
    return list(client.get(address(model, "changelist"), query).context["cl"].result_list)


def one_of_each():
    return batch_with("paused", name="the batch", ok=1, failed=1, stories=[story()])


@models
def test_nobody_can_add_change_or_delete(client, model):
    one_of_each()
    row = model.objects.first()
    before = list(model.objects.order_by("pk").values())
    assert client.get(address(model, "add")).status_code == 403
    assert client.post(address(model, "add"), {}).status_code == 403
    assert client.post(address(model, "change", row.pk), {"url": "x", "name": "x"}).status_code == 403
    assert client.get(address(model, "delete", row.pk)).status_code == 403
    assert client.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    client.post(address(model, "changelist"), {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"})
    assert list(model.objects.order_by("pk").values()) == before


@models
def test_a_row_can_be_read(client_of, model):
    one_of_each()
    client = client_of("viewer")
    row = model.objects.latest("pk")
    assert address(model, "change", row.pk) in text_of(client.get(address(model, "changelist")))
    html = text_of(client.get(address(model, "change", row.pk)))
    assert "<input" not in html.split('id="content-main"')[1].replace('<input type="hidden"', "")


@models
@pytest.mark.parametrize(("role", "status"), [("anonymous", 302), ("staff", 403), ("adder", 403)])
def test_only_who_may_view_them_can(client_of, model, role, status):
    assert client_of(role).get(address(model, "changelist")).status_code == status


@models
def test_the_newest_come_first(client, model):
    one_of_each()
    BatchManager().repeat_batch(Batch.objects.get().pk)
    rows = found(client, model)
    assert rows == sorted(rows, key=lambda row: -row.pk)


@models
def test_the_number_of_queries_does_not_grow_with_the_rows(client, model):
    def look():
        return queries_of(lambda: client.get(address(model, "changelist")))

    one_of_each()
    look()
    before = look()
    batch_with("paused", ok=5, failed=5, stories=[story(f"story {number}") for number in range(9)])
    for _ in range(5):
        batch_with("paused")
    assert look() == before


@models
def test_each_list_can_be_searched(client, model):
    batch = one_of_each()
    batch_with("paused")
    Profile.objects.filter(checks__batch=batch).update(name="needle")
    StoryResult.objects.update(title="needle")
    Batch.objects.filter(pk=batch.pk).update(name="needle")
    rows = found(client, model, q="needle")
    assert rows
    assert len(rows) < model.objects.count() or model is StoryResult


@pytest.mark.parametrize("model", [BatchProfile, StoryResult, BatchLog])
def test_the_rows_of_one_batch_are_a_list_of_their_own(client, model):
    batch = one_of_each()
    batch_with("paused", ok=1, stories=[story("another")])
    rows = found(client, model, batch=str(batch.pk))
    assert rows
    assert {row.batch for row in rows} == {batch}
    assert "the batch" in text_of(client.get(address(model, "changelist"), {"batch": str(batch.pk)}))


@pytest.mark.parametrize("model", [BatchProfile, StoryResult, BatchLog])
def test_the_rows_of_a_batch_that_does_not_exist_are_none(client, model):
    gone = one_of_each()
    BatchManager().delete_batch(gone.pk)  # its stories stay, and belong to no batch
    for batch in ("", "123", "\0", "x" * 5000, "00000000-0000-0000-0000-000000000000"):
        assert found(client, model, batch=batch) == []


def test_the_failed_rows_can_be_filtered(client):
    one_of_each()
    [row] = found(client, BatchProfile, status__exact="failed")
    assert row.error == "HTTP status 500"


def test_a_profile_leads_to_its_checks_and_stories(client):
    one_of_each()
    profile = StoryResult.objects.get().profile
    html = text_of(client.get(address(Profile, "change", profile.pk)))
    for model in (BatchProfile, StoryResult):
        link = f"{address(model, 'changelist')}?profile__id__exact={profile.pk}"
        assert link in html
        assert {row.profile for row in found(client, model, profile__id__exact=profile.pk)} == {profile}


def test_the_queue_itself_cannot_be_edited(client):
    html = text_of(client.get(reverse("admin:index")))
    assert "/admin/batches/queue/" not in html
    assert client.get("/admin/batches/queue/").status_code == 404


def test_the_rows_of_batches_are_not_in_the_index(client):
    html = text_of(client.get(reverse("admin:index")))
    assert address(Profile, "changelist") in html
    assert address(BatchProfile, "changelist") not in html

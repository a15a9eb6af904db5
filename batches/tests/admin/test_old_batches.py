"""Deleting old batches from one page."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import Batch

from .conftest import LIST, batch_with, document, messages_of, send, text_of

pytestmark = pytest.mark.django_db

OLD = reverse("admin:batches_batch_old")


def ended(name, days):
    batch = batch_with("done", name=name)
    Batch.objects.filter(pk=batch.pk).update(completed_at=timezone.now() - timedelta(days=days))
    return batch


def names():
    return sorted(Batch.objects.values_list("name", flat=True))


def test_the_batches_that_ended_long_ago_are_shown_and_then_deleted(client):
    old, older = ended("old", 31), ended("older", 400)
    ended("recent", 1)
    batch_with(name="waiting")
    assert f'href="{OLD}"' in text_of(client.get(LIST))
    page = text_of(question := client.get(OLD, {"days": 30}))
    assert "“old”" in page
    assert "“older”" in page
    assert "“recent”" not in page
    assert BatchManager().queue_batch(old.pk)  # in between
    assert "1 done, 1 refused" in messages_of(send(client, question))[0][1]
    assert names() == ["old", "recent", "waiting"]
    assert not Batch.objects.filter(pk=older.pk).exists()


@pytest.mark.parametrize(("days", "shown"), [("", "90"), ("0", "90"), ("-5", "1"), ("x", "90"), ("9" * 30, "36500")])
def test_any_number_of_days_is_understood_and_nothing_to_delete_has_no_button(client, days, shown):
    page = document(client.get(OLD, {"days": days}))
    assert page.get_element_by_id("days").get("value") == shown
    assert page.xpath("//input[@type='submit']") == []
    assert "No batch ended more than" in page.text_content()

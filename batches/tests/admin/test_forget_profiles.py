"""Forgetting profiles in the admin: a question shows the counts, and only these profiles are forgotten."""

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from batches.models import BatchLog, Profile
from batches.queue.refusals import Code, Refusal
from batches.tests.support.factories import make_batch, make_list, ok, record_one, start_run, unchanged, urls

from .conftest import SCRIPT, client_with, queries_of, send, text_of

pytestmark = pytest.mark.django_db

PAGE = reverse("admin:batches_profile_changelist")


@pytest.fixture
def profiles():
    make_list("people", 2)
    record_one(start_run(make_batch("it", 3)), ok("a", "b"))
    return list(Profile.objects.order_by("pk"))


def choose(client, *chosen, query="", **fields):
    data = {"action": "forget_selected", "_selected_action": [profile.pk for profile in chosen], **fields}
    return client.post(f"{PAGE}?{query}", data, follow=True)


def test_a_question_shows_the_counts_before_a_selection_is_forgotten(client, profiles):
    Profile.objects.filter(pk=profiles[0].pk).update(name=SCRIPT)
    with unchanged():
        question = text_of(response := choose(client, *profiles[:2]))
    assert "2 profiles will be deleted with everything that is stored about them" in question
    assert "2 rows in batches, 2 stories and 2 memberships in lists" in question
    assert urls(1)[0] in question
    assert SCRIPT not in question
    assert "2 profiles forgotten." in text_of(send(client, response))
    assert list(Profile.objects.all()) == profiles[2:]
    assert BatchLog.objects.filter(action="forget_profile", actor="superuser", channel="admin", list=None).exists()
    assert not LogEntry.objects.exists()


def test_the_permission_to_delete_profiles_is_enough(profiles):
    client = client_with("view_profile", "delete_profile")
    assert "1 profile forgotten." in text_of(send(client, choose(client, profiles[0])))
    assert client.get(reverse("admin:batches_profile_delete", args=[profiles[1].pk])).status_code == 403


def test_exactly_the_matching_profiles_are_forgotten(client, profiles):
    Profile.objects.filter(pk__in=[profiles[0].pk, profiles[1].pk]).update(name="Ada")
    question = choose(client, profiles[0], query="q=ada", select_across="1")
    assert "2 profiles will be deleted" in text_of(question)
    send(client, question)
    assert list(Profile.objects.all()) == profiles[2:]


def test_the_question_is_repeated_if_the_selection_has_changed(client, profiles):
    question = choose(client, profiles[0], select_across="1")
    Profile.objects.create(url="https://new.example/")
    with unchanged():
        again = text_of(send(client, question))
    assert "The profiles have changed. Check them again." in again
    assert "https://new.example/" in again


def test_a_refusal_is_shown(client, profiles, monkeypatch):
    refusal = Refusal(Code.BEING_ADDED, "A batch with this profile is being stored.")
    question = choose(client, profiles[0])
    monkeypatch.setattr("batches.batch_manager.BatchManager.forget_profile", lambda *_: refusal)
    page = text_of(send(client, question))
    assert "0 profiles forgotten." in page
    assert refusal.message in page


def test_the_question_takes_a_constant_number_of_queries(client, profiles, monkeypatch):
    monkeypatch.setattr("batches.admin.profiles.MAX_BULK", 2)
    few = queries_of(lambda: choose(client, profiles[0]))
    question = choose(client, *profiles)
    assert "1 more matches and will be left for now." in text_of(question)
    assert queries_of(lambda: choose(client, *profiles)) == few

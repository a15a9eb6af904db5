"""The page of permanent redirects lists proposals, and accepts only those that it showed."""

import pytest
from django.urls import reverse

from batches.models import BatchLog, Profile, Redirect
from batches.tests.support.factories import propose_redirect, unchanged, urls

from .conftest import send, text_of

pytestmark = pytest.mark.django_db

PAGE = reverse("admin:batches_redirect_changelist")


@pytest.fixture
def proposed():
    Profile.objects.create(url="https://known.example/", name="Known")
    return [
        propose_redirect(urls(2)[0], "https://new.example/"),
        propose_redirect(urls(2)[1], "https://known.example/"),
    ]


def choose(client, *redirects, **fields):
    data = {"action": "accept_selected", "_selected_action": [found.pk for found in redirects], **fields}
    return client.post(PAGE, data, follow=True)


def test_the_page_lists_proposals_and_their_effects(client, proposed):
    propose_redirect("https://recent.example/", "https://elsewhere.example/", checks=1)
    page = text_of(client.get(PAGE))
    assert "https://new.example/" in page
    assert "gets the new address" in page
    assert "is merged into that profile" in page
    assert "elsewhere.example" not in page


def test_a_selection_is_accepted_after_a_question(client, proposed):
    with unchanged():
        question = choose(client, *proposed)
    assert "2 profiles will get a new address" in text_of(question)
    assert f"{urls(2)[1]} → https://known.example/ (merged)" in text_of(question)
    answer = send(client, question)
    assert "2 redirects accepted." in text_of(answer)
    assert not Redirect.objects.exists()
    assert BatchLog.objects.filter(action="accept_redirect", channel="admin", actor="superuser").count() == 2
    assert Profile.objects.filter(url="https://new.example/").exists()


def test_exactly_the_matching_redirects_are_accepted(client, proposed):
    question = client.post(
        f"{PAGE}?q=known", {"action": "accept_selected", "select_across": "1", "_selected_action": proposed[1].pk}
    )
    assert "1 profile will get a new address" in text_of(question)
    assert "1 redirect accepted." in text_of(send(client, question))
    assert Redirect.objects.get() == proposed[0]


def test_the_question_is_repeated_if_the_selection_has_changed(client, proposed):
    question = choose(client, *proposed)
    Redirect.objects.filter(pk=proposed[0].pk).update(url="https://elsewhere.example/")
    with unchanged():
        again = send(client, question)
    assert "The redirects have changed. Check them again." in text_of(again)
    assert "https://elsewhere.example/" in text_of(again)


def test_many_are_accepted_in_several_steps(client, proposed, monkeypatch):
    monkeypatch.setattr("batches.admin.redirects.MAX_BULK", 1)
    question = choose(client, *proposed)
    assert "1 more matches and will be left for now." in text_of(question)
    send(client, question)
    assert Redirect.objects.count() == 1

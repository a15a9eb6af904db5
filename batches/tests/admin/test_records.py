"""Profiles, their results, stories and the log: lists that can be searched and read."""

import pytest
from django.db.models.functions import Now
from django.urls import reverse

from batches.batch_manager import BatchManager
from batches.models import Attempt, Batch, BatchLog, BatchProfile, Profile, ProfileList, StoryResult
from batches.tests.support.factories import half_known, unchanged

from .conftest import address, batch_with, client_with, document, listed, page_of, story, text_of, words

pytestmark = pytest.mark.django_db

models = pytest.mark.parametrize("model", [Profile, BatchProfile, StoryResult, BatchLog])
batch_rows = pytest.mark.parametrize("model", [BatchProfile, StoryResult, BatchLog])


def one_of_each():
    return batch_with("paused", name="the batch", ok=1, failed=1, stories=[story()])


@models
def test_a_list_is_newest_first_and_can_be_searched(client, model):
    batch = one_of_each()
    batch_with("paused", ok=1, stories=[story("another")])
    assert listed(client, model) == list(model.objects.order_by("-pk"))
    Profile.objects.filter(checks__batch=batch).update(name="needle")
    Batch.objects.filter(pk=batch.pk).update(name="needle")
    assert 0 < len(listed(client, model, q="needle")) < model.objects.count()


@batch_rows
def test_a_list_can_be_filtered_by_batch(client, model):
    batch = one_of_each()
    batch_with("paused", ok=1, stories=[story("another")])
    rows = listed(client, model, batch=str(batch.pk))
    assert rows
    assert {row.batch for row in rows} == {batch}
    assert "the batch" in text_of(client.get(address(model, "changelist"), {"batch": str(batch.pk)}))
    BatchManager().delete_batch(batch.pk)  # its stories stay, without a batch
    for unknown in ("", "123", "\0", "x" * 5000, "00000000-0000-0000-0000-000000000000", str(batch.pk)):
        assert listed(client, model, batch=unknown) == []


@pytest.mark.on_both_databases
def test_a_batch_disappears_from_all_lists_before_its_rows_are_removed(client):
    batch, shown = one_of_each(), batch_with("paused", ok=1)
    assert BatchManager().retry_failed(batch.pk)
    assert listed(client, Attempt)
    Batch.objects.filter(pk=batch.pk).update(status="paused", position=None, deleted_at=Now())
    assert {row.batch for row in listed(client, BatchProfile)} == {shown}
    assert listed(client, Attempt) == []
    for model in (StoryResult, BatchLog):
        assert listed(client, model)
        assert "the batch" not in text_of(client.get(address(model, "changelist")))


def test_a_profile_links_to_its_checks_and_stories(client):
    one_of_each()
    profile = StoryResult.objects.get().profile
    html = text_of(client.get(address(Profile, "change", profile.pk)))
    for model in (BatchProfile, StoryResult):
        assert f"{address(model, 'changelist')}?profile__id__exact={profile.pk}" in html
        assert {row.profile for row in listed(client, model, profile__id__exact=profile.pk)} == {profile}


def profile_of(batch, **which):
    return batch.profiles.get(**which).profile


def test_the_page_of_a_profile_shows_its_history_and_its_state(client):
    batch = batch_with("done", name="nightly", ok=1, failed=1, pending=0, stories=[story("Whales!")])
    read, failing = profile_of(batch, status="ok"), profile_of(batch, status="failed")
    found = BatchManager().create_list("Whales", [read.url, failing.url])
    assert BatchManager().retry_failed(batch.pk)
    page = document(client.get(address(Profile, "change", failing.pk)))
    [row] = page.xpath("//table[contains(@class, 'profile-checks')]/tbody/tr")
    assert [words(cell) for cell in row.xpath("td")[1:]] == [
        "Failed (rechecked)", "nightly", "500", "0.00 s", "HTTP status 500",
    ]  # fmt: skip
    text = words(page)
    for part in ("1 failed check in a row", "Whales", "HTTP status 500"):
        assert part in text, part
    assert page.xpath(f"//a[@href='{address(ProfileList, 'change', found.pk)}']")
    assert page.xpath("//h1")[0].text == failing.url
    assert "Whales!" in words(document(client.get(address(Profile, "change", read.pk))))


def test_the_pages_of_rows_round_durations(client):
    one_of_each()
    Profile.objects.update(last_duration=0.30670754899)
    BatchProfile.objects.update(duration=0.30670754899)
    for row in (Profile.objects.first(), BatchProfile.objects.first()):
        shown = text_of(client.get(page_of(row)))
        assert '<div class="readonly">0.31 s</div>' in shown
        assert "0.306" not in shown


def test_the_buttons_of_a_profile_ask_before_they_act(client, client_of):
    profile = profile_of(one_of_each(), status="failed")
    page = document(client.get(address(Profile, "change", profile.pk)))
    assert page.xpath("//form[@id='profile-actions']//button/@value") == ["check_selected", "forget_selected"]
    fields = dict(page.get_element_by_id("profile-actions").form_values())
    for action, question in (("check_selected", "1 profile will be checked"), ("forget_selected", "1 profile will be")):
        with unchanged():
            asked = client.post(address(Profile, "changelist"), fields | {"action": action})
        assert question in words(document(asked))
    for role, buttons in (("viewer", []), ("checker", ["check_selected"])):
        page = document(client_of(role).get(address(Profile, "change", profile.pk)))
        assert page.xpath("//form[@id='profile-actions']//button/@value") == buttons


def test_a_profile_shows_only_the_parts_of_the_users_permissions():
    batch = batch_with("done", name="nightly", ok=1, pending=0, stories=[story("Whales!")])
    client = client_with("view_profile")
    text = words(document(client.get(address(Profile, "change", profile_of(batch, status="ok").pk))))
    assert not [part for part in ("nightly", "Whales!", "It is not in any list", "Check now") if part in text]


def test_a_profile_that_nobody_has_checked_says_what_to_do(client):
    BatchManager().create_list("Whales", ["https://new.example/"])
    text = words(document(client.get(address(Profile, "change", Profile.objects.get().pk))))
    assert "No batch has checked it yet. Press “Check now” to check it." in text


@pytest.mark.parametrize(
    ("query", "kind", "expected"),
    [
        ({}, "New", ["c", "b"]),
        ({"baseline": "include"}, "All", ["c", "b", "a"]),
        ({"baseline": "only"}, "Baseline: found at the first read", ["a"]),
    ],
)
def test_the_list_of_stories_shows_the_baseline_on_request(client, query, kind, expected):
    batch = half_known()
    for narrowed in (query, query | {"batch": str(batch.pk)}):
        assert [found.story_id for found in listed(client, StoryResult, **narrowed)] == expected
    page = document(client.get(address(StoryResult, "changelist"), query))
    chosen = page.xpath("//details[@data-filter-title='kind']//li[@class='selected']/a/text()")
    assert [text.strip() for text in chosen] == [kind]


def test_the_overview_excludes_the_rows_of_batches(client):
    html = text_of(client.get(reverse("admin:index")))
    assert address(Profile, "changelist") in html
    assert address(BatchProfile, "changelist") not in html

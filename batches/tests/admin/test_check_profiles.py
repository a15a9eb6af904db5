"""Creating a batch of profiles that are selected in their list, or of all that match its filters and search."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from batches.admin import display
from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Channel, Profile
from batches.tests.support.factories import undone

from .conftest import (
    NOTHING_LEFT,
    SCRIPT,
    address,
    client_as,
    document,
    listed,
    messages_of,
    page_of,
    queries_of,
    send,
    text_of,
)

pytestmark = pytest.mark.django_db

LIST = reverse("admin:batches_profile_changelist")
FORM = {"confirmed": "yes", "name": "a", "priority": "0", "checker": "feed"}


@pytest.fixture
def profiles():
    """Eight of a.example, which failed, so that two of them rest; then four of b.example, which were never checked."""
    checked = timezone.now()
    Profile.objects.bulk_create(
        [Profile(url=f"https://a.example/{n}", last_error="broken", last_checked_at=checked) for n in range(8)]
        + [Profile(url=f"https://b.example/{n}") for n in range(4)]
    )
    profiles = list(Profile.objects.order_by("pk"))
    resting = {"failures": 3, "failing_since": checked, "rests_until": checked + timedelta(days=1)}
    Profile.objects.filter(pk__in=[profile.pk for profile in profiles[:2]]).update(**resting)
    return profiles


def ask(client, chosen=(), across=False, query="", **fields):
    """The form that the list's "Go" sends."""
    fields = {"action": "check_selected", "index": "0", "select_across": str(int(across))} | fields
    ticked = [profile.pk for profile in chosen] or [Profile.objects.latest("pk").pk]
    return client.post(f"{LIST}?{query}", fields | {"_selected_action": ticked}, follow=True)


def test_selected_profiles_become_a_batch_and_the_logs_name_the_user(client_of, profiles):
    client = client_of("checker")
    page = ask(client, profiles[2:5])
    assert not Batch.objects.exists()
    assert "3 profiles will be checked" in text_of(page)
    response = send(client, page, priority="7")
    batch = Batch.objects.get()
    assert (batch.name, batch.priority, batch.status, batch.total_profiles) == ("3 selected profiles", 7, "queued", 3)
    urls = batch.profiles.order_by("pk").values_list("profile__url", flat=True)
    assert list(urls) == [f"https://a.example/{n}" for n in (2, 3, 4)]
    sentence = "“3 selected profiles” was added and waits at position 1 with 3 profiles."
    assert messages_of(response) == [("success", sentence)]
    assert response.redirect_chain == [(page_of(batch), 302)]
    log = BatchLog.objects.get()
    assert (log.action, log.actor, log.channel) == ("create_batch", "checker", Channel.ADMIN)
    assert LogEntry.objects.get().get_edited_object() == batch


@pytest.mark.parametrize(
    ("query", "name", "number"),
    [
        ("", "All profiles", 12),
        ("q=b.example", "Search: “b.example”", 4),
        ("check=failed", "Last check: failed", 8),
        ("check=never&q=%2F3", "Search: “/3”; last check: never checked", 1),
        ("host=a.example", "Host: a.example", 8),
        ("quiet_days=7", "Time since last new story: more than a week", 12),
        ("rest=resting", "Rest: resting", 2),
    ],
)
def test_all_matching_profiles_become_a_batch_with_the_name_of_the_filters(client, profiles, query, name, number):
    page = ask(client, across=True, query=query)
    assert ("Check 1 matching profile" if number == 1 else f"Check all {number} matching profiles") in text_of(page)
    assert "Check all 1 " not in text_of(page)
    assert len(page.context["selected"]) == 1
    send(client, page)
    batch = Batch.objects.get()
    assert (batch.name, batch.total_profiles) == (name, number)


@pytest.mark.parametrize(("across", "name"), [(True, "Last check: failed"), (False, "2 selected profiles")])
def test_the_suggested_name_is_english_in_every_language(german, profiles, across, name):
    client = client_as("superuser", headers={"Accept-Language": "de"})
    page = ask(client, profiles[:2], across=across, query="check=failed")
    assert "Profile prüfen" in text_of(page)
    assert page.context["form"]["name"].value() == name


def test_the_batch_has_the_profiles_that_match_at_confirmation_and_a_message_gives_the_difference(client, profiles):
    page = ask(client, across=True, query="check=failed")
    Profile.objects.filter(pk__in=[profile.pk for profile in profiles[:3]]).update(last_error="")
    response = send(client, page)
    assert Batch.objects.get().total_profiles == 5
    assert messages_of(response)[0] == ("warning", "8 profiles matched on the page, 5 when you confirmed.")
    Profile.objects.update(last_error="")
    response = send(client, page)
    assert messages_of(response) == NOTHING_LEFT
    assert Batch.objects.count() == 1


def test_each_confirmed_selection_creates_one_batch_even_if_it_is_sent_twice(client, profiles):
    page = ask(client, profiles[:2])
    first, second = send(client, page), send(client, page)
    assert first.redirect_chain == second.redirect_chain
    assert messages_of(second)[0][1].endswith("The form was sent twice; only one batch was created.")
    assert (Batch.objects.count(), LogEntry.objects.count()) == (1, 1)
    send(client, page, _selected_action=[profile.pk for profile in profiles[:3]])
    send(client, page, select_across="1")
    send(client, page, f"{LIST}?check=never", select_across="1")
    assert Batch.objects.count() == 4


def test_an_error_keeps_the_selection(client, profiles):
    page = send(client, ask(client, profiles[:2]), name="")
    assert "This field is required." in text_of(page)
    assert not Batch.objects.exists()
    send(client, page, name="Good")
    assert Batch.objects.get().total_profiles == 2


@pytest.mark.databases("sqlite")
def test_a_forged_field_breaks_nothing(client, profiles):
    page = ask(client, profiles[:2])
    for field in ("shown", "token", "index", "select_across"):
        for value in ("", "\0", SCRIPT, "-1", "9" * 40, "\u0663", "false"):
            with undone():
                assert SCRIPT not in text_of(send(client, page, **{field: value})), (field, value)
                assert Batch.objects.get().total_profiles in ({2} if field != "select_across" else {2, 12}), value


def test_an_invalid_filter_creates_no_batch(client, profiles):
    for query in ("check=nonsense", "quiet_days=3", "unchecked_days=%00", "host=%00", "q=%ED%A0%80"):
        ask(client, across=True, query=query, **FORM)
        assert not Batch.objects.exists(), query


def test_the_number_of_queries_does_not_grow_with_the_profiles(client, profiles):
    def count(chosen):
        pages = []
        asking = queries_of(lambda: pages.append(ask(client, chosen)))
        return asking, queries_of(lambda: send(client, pages[0]))

    count(profiles[:1])
    assert count(profiles[:1]) == count(profiles)


# The filters


def matching(client, query):
    found = client.get(f"{LIST}?{query}").context["cl"].queryset
    return {profile.url.removeprefix("https://") for profile in found}


def test_profiles_are_filtered_by_their_last_check_and_their_last_story(client):
    now = timezone.now()
    for url, days, error, story_days in [
        ("new/", None, "", None),
        ("ok/", 0, "", 0),
        ("quiet/", 0, "", 40),
        ("failed/", 3, "HTTP status 500", 400),
        ("old/", 400, "", None),
    ]:
        Profile.objects.create(
            url=f"https://{url}",
            last_checked_at=None if days is None else now - timedelta(days=days),
            last_error=error,
            last_story_at=None if story_days is None else now - timedelta(days=story_days),
        )
    assert matching(client, "check=never") == {"new/"}
    assert matching(client, "check=ok") == {"ok/", "quiet/", "old/"}
    assert matching(client, "check=failed") == {"failed/"}
    assert matching(client, "unchecked_days=1") == {"new/", "failed/", "old/"}
    assert matching(client, "unchecked_days=365") == {"new/", "old/"}
    assert matching(client, "quiet_days=30") == {"new/", "quiet/", "failed/", "old/"}
    assert matching(client, "check=ok&quiet_days=30") == {"quiet/", "old/"}


def test_a_profile_without_a_new_story_is_quiet_since_its_first_check(client):
    for url, days in (("yesterday/", 1), ("long/", 40)):
        Profile.objects.create(url=f"https://{url}", first_read_at=timezone.now() - timedelta(days=days))
    assert matching(client, "quiet_days=30") == {"long/"}


def test_profiles_that_rest_are_listed_with_the_reason_and_the_next_try(client):
    now = timezone.now()
    memory = {"failures": 3, "failing_since": now - timedelta(days=40), "last_error": "It is gone."}
    for url, hours in (("rests/", 1), ("again/", -1)):
        Profile.objects.create(url=f"https://{url}", rests_until=now + timedelta(hours=hours), **memory)
    assert matching(client, "rest=resting") == {"rests/"}
    page = text_of(client.get(LIST, {"rest": "resting"}))
    assert '<td class="field-last_error">It is gone.</td>' in page
    assert f'<td class="field-rests_until">{display.moment(now + timedelta(hours=1))}</td>' in page


def test_a_profile_links_to_the_profiles_of_its_host(client):
    urls = ["https://a.example/1", "http://a.example/2", "https://a.example:8/", "https://a.example.org/", "https://b/"]
    BatchManager().create_batch("a", urls)
    profile = Profile.objects.get(url="https://a.example:8/")
    assert f"{LIST}?host=a.example%3A8" in text_of(client.get(address(Profile, "change", profile.pk)))
    assert matching(client, "host=A.Example") == {"a.example/1", "http://a.example/2", "a.example:8/"}
    assert matching(client, "host=a.example%3A8") == {"a.example:8/"}
    assert matching(client, "host=https%3A%2F%2Fa.example:8/whatever?x") == {"a.example:8/"}
    assert [found.url for found in listed(client, Profile, host="a.example")] == sorted(urls[:3])
    for other in ("a_example", "example", "a.example/1", "", "%00"):
        assert matching(client, f"host={other}") == set()
    find = document(client.get(reverse("admin:index"))).get_element_by_id("dashboard-find")
    assert (find.action, list(find.fields)) == (LIST, ["host"])

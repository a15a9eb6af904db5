"""Making a batch of profiles that are selected in their list, or of all that match its filters and search."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Channel, Profile

from .conftest import messages_of, queries_of, text_of

pytestmark = pytest.mark.django_db

LIST = reverse("admin:batches_profile_changelist")
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def profiles():
    """Eight of a.example, which failed; then four of b.example, which were never checked."""
    checked = timezone.now()
    Profile.objects.bulk_create(
        [Profile(url=f"https://a.example/{n}", last_error="broken", last_checked_at=checked) for n in range(8)]
        + [Profile(url=f"https://b.example/{n}") for n in range(4)]
    )
    return list(Profile.objects.order_by("pk"))


def ask(client, chosen=(), across=False, query="", **fields):
    """What the list's "Go" sends."""
    fields = {"action": "check_selected", "index": "0", "select_across": str(int(across))} | fields
    ticked = [profile.pk for profile in chosen] or [Profile.objects.latest("pk").pk]
    return client.post(f"{LIST}?{query}", fields | {"_selected_action": ticked}, follow=True)


def confirm(client, page, query="", **changes):
    """What the confirmation sends."""
    context = page.context
    form = context["form"]
    fields = {name: form[name].value() for name in ("name", "priority", "checker", "token")} | {
        "queue": "on",
        "shown": str(context["count"]),
        "action": "check_selected",
        "select_across": str(int(context["is_all"])),
        "_selected_action": context["selected"],
        "confirmed": "yes",
    }
    return client.post(f"{LIST}?{query}", fields | changes, follow=True)


def urls_of(batch):
    return list(batch.profiles.order_by("pk").values_list("profile__url", flat=True))


def test_selected_profiles_become_a_batch(client_of, profiles):
    client = client_of("checker")
    shown = ask(client, profiles[2:5])
    assert not Batch.objects.exists()
    assert "3 profiles will be checked" in text_of(shown)
    response = confirm(client, shown, priority="7")
    batch = Batch.objects.get()
    assert (batch.name, batch.priority, batch.status, batch.total_profiles) == ("3 selected profiles", 7, "queued", 3)
    assert urls_of(batch) == [f"https://a.example/{n}" for n in (2, 3, 4)]
    assert messages_of(response) == [
        ("success", "“3 selected profiles” was added and waits at position 1 with 3 profiles.")
    ]
    assert response.redirect_chain == [(reverse("admin:batches_batch_change", args=[batch.pk]), 302)]


def test_the_log_says_who_it_was(client_of, profiles):
    client = client_of("checker")
    confirm(client, ask(client, profiles))
    log = BatchLog.objects.get()
    assert (log.action, log.actor, log.channel, log.message) == (
        "create_batch",
        "checker",
        Channel.ADMIN,
        "12 profiles",
    )
    assert LogEntry.objects.get().get_edited_object() == Batch.objects.get()


@pytest.mark.parametrize(
    ("query", "name", "number"),
    [
        ("", "All profiles", 12),
        ("q=b.example", "Search: “b.example”", 4),
        ("check=failed", "Last check: failed", 8),
        ("check=never&q=%2F3", "Search: “/3”; last check: never checked", 1),
        ("host=a.example", "Host: a.example", 8),
        ("quiet_days=7", "Time since last new story: more than a week", 12),
        ("q=%ED%A0%80", "Search: “\ufffd\ufffd\ufffd”", 0),
    ],
)
def test_all_that_match_become_a_batch_named_after_what_they_match(client, profiles, query, name, number):
    shown = ask(client, across=True, query=query)
    if not number:
        assert not Batch.objects.exists()
        return
    assert f"Check all {number} matching profiles" in text_of(shown)
    assert len(shown.context["selected"]) == 1
    confirm(client, shown, query=query)
    batch = Batch.objects.get()
    assert (batch.name, batch.total_profiles) == (name, number)


def test_what_matches_when_it_is_confirmed_goes_in_and_the_difference_is_told(client, profiles):
    shown = ask(client, across=True, query="check=failed")
    Profile.objects.filter(pk__in=[profile.pk for profile in profiles[:3]]).update(last_error="")
    response = confirm(client, shown, query="check=failed")
    assert Batch.objects.get().total_profiles == 5
    assert messages_of(response)[0] == ("warning", "8 profiles matched on the page, 5 when you confirmed.")


def test_nothing_is_added_where_nothing_matches_any_more(client, profiles):
    shown = ask(client, across=True, query="check=failed")
    Profile.objects.update(last_error="")
    response = confirm(client, shown, query="check=failed")
    assert messages_of(response) == [("warning", "No profiles match any more. Nothing was added.")]
    assert not Batch.objects.exists()


def test_a_confirmation_that_is_sent_twice_makes_one_batch(client, profiles):
    shown = ask(client, profiles[:2])
    first, second = confirm(client, shown), confirm(client, shown)
    assert first.redirect_chain == second.redirect_chain
    assert messages_of(second)[0][1].endswith("The form was sent twice; only one batch was created.")
    assert (Batch.objects.count(), LogEntry.objects.count()) == (1, 1)


def test_another_selection_with_the_same_token_is_another_batch(client, profiles):
    shown = ask(client, profiles[:2])
    confirm(client, shown)
    confirm(client, shown, _selected_action=[profile.pk for profile in profiles[:3]])
    confirm(client, shown, select_across="1")
    confirm(client, shown, select_across="1", query="check=never")
    assert Batch.objects.count() == 4


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": ""}, "This field is required."),
        ({"name": "a\0b"}, "Null characters"),
        ({"name": "a" * 201}, "at most 200"),
        ({"priority": "high"}, "Enter a whole number."),
        ({"checker": "telnet"}, "telnet"),
    ],
)
@pytest.mark.databases("sqlite")
def test_an_error_is_told_and_the_selection_is_kept(client, profiles, changes, sentence):
    shown = confirm(client, ask(client, profiles[:2]), **changes)
    assert sentence in text_of(shown)
    assert not Batch.objects.exists()
    assert shown.context["count"] == 2
    confirm(client, shown, name="Good", priority="0", checker="feed")
    assert Batch.objects.get().total_profiles == 2


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_who_may_not_add_batches_neither_sees_it_nor_can_do_it(client_of, profiles, role):
    client = client_of(role)
    html = text_of(client.get(LIST))
    assert "check_selected" not in html
    assert "action-select" not in html
    ask(client, profiles)
    client.post(LIST, {"action": "check_selected", "_selected_action": profiles[0].pk, "confirmed": "yes", "name": "a"})
    assert not Batch.objects.exists()


@pytest.mark.parametrize(("role", "status"), [("anonymous", 302), ("staff", 403), ("adder", 403), ("editor", 403)])
def test_who_may_not_view_profiles_cannot_check_them(client_of, profiles, role, status):
    fields = {"action": "check_selected", "_selected_action": profiles[0].pk, "confirmed": "yes", "name": "a"}
    assert client_of(role).post(LIST, fields).status_code == status
    assert not Batch.objects.exists()


@pytest.mark.parametrize("pk", ["", "x", "\0", "1.5", "-1", "9" * 30, SCRIPT, "'; DROP TABLE", "x" * 5000])
def test_no_id_breaks_it(client, profiles, pk):
    for extra in ({}, {"confirmed": "yes", "name": "a", "priority": "0", "checker": "feed"}):
        fields = {"action": "check_selected", "_selected_action": pk} | extra
        assert SCRIPT not in text_of(client.post(LIST, fields, follow=True))
    assert not Batch.objects.exists()


@pytest.mark.parametrize("field", ["shown", "token", "index", "select_across"])
@pytest.mark.parametrize("value", ["", "\0", SCRIPT, "-1", "9" * 40, "\u0663", "false"])
def test_no_forged_field_breaks_it(client, profiles, field, value):
    response = confirm(client, ask(client, profiles[:2]), **{field: value})
    assert SCRIPT not in text_of(response)
    assert Batch.objects.get().total_profiles in ({2} if field != "select_across" else {2, 12})


@pytest.mark.parametrize("query", ["check=nonsense", "quiet_days=3", "unchecked_days=%00", "host=%00", "q=%00", "x=1"])
def test_a_query_that_is_not_understood_makes_no_batch(client, profiles, query):
    ask(client, across=True, query=query, confirmed="yes", name="a", priority="0", checker="feed")
    # A search with NUL is left out by Django itself, which says so; so is a NUL on SQLite, which finds nothing.
    assert not Batch.objects.exists() or query == "q=%00"


def test_strangers_texts_are_escaped(client):
    Profile.objects.create(url="https://a.example/", name=SCRIPT)
    shown = ask(client, across=True, query="q=script")
    assert SCRIPT not in text_of(shown)
    assert SCRIPT not in text_of(ask(client, across=True, query=f"host={SCRIPT}"))


def test_the_number_of_queries_does_not_grow_with_the_profiles(client, profiles):
    def look(chosen):
        shown = []
        asked = queries_of(lambda: shown.append(ask(client, chosen)))
        return asked, queries_of(lambda: confirm(client, shown[0]))

    look(profiles[:1])
    assert look(profiles[:1]) == look(profiles)


# The filters


def matching(client, query):
    shown = client.get(f"{LIST}?{query}")
    return {profile.url.removeprefix("https://") for profile in shown.context["cl"].queryset}


def test_profiles_are_filtered_by_their_last_check_and_their_last_story(client):
    now = timezone.now()
    for url, days, error, story in [
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
            last_story_at=None if story is None else now - timedelta(days=story),
        )
    assert matching(client, "check=never") == {"new/"}
    assert matching(client, "check=ok") == {"ok/", "quiet/", "old/"}
    assert matching(client, "check=failed") == {"failed/"}
    assert matching(client, "unchecked_days=1") == {"new/", "failed/", "old/"}
    assert matching(client, "unchecked_days=365") == {"new/", "old/"}
    assert matching(client, "quiet_days=30") == {"new/", "quiet/", "failed/", "old/"}
    assert matching(client, "check=ok&quiet_days=30") == {"quiet/", "old/"}


def test_a_profile_leads_to_those_of_its_host(client):
    urls = ["https://a.example/1", "http://a.example/2", "https://a.example:8/", "https://a.example.org/", "https://b/"]
    BatchManager().create_batch("a", urls)
    profile = Profile.objects.get(url="https://a.example:8/")
    assert f"{LIST}?host=a.example%3A8" in text_of(
        client.get(reverse("admin:batches_profile_change", args=[profile.pk]))
    )
    assert matching(client, "host=A.Example") == {"a.example/1", "http://a.example/2", "a.example:8/"}
    assert matching(client, "host=a.example%3A8") == {"a.example:8/"}
    for other in ("a_example", "example", "a.example/1", "", "%00"):
        assert matching(client, f"host={other}") == set()

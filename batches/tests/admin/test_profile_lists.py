"""Lists in the admin: editing them in place, the import with its preview, their profiles and their runs."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.timezone import localtime

from batches.admin import forms
from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, ListProfile, Profile, ProfileList
from batches.tests.support.factories import (
    failed,
    last_line,
    make_batch,
    make_list,
    ok,
    run_list,
    subscribe,
    unchanged,
    urls,
    urls_of,
)

from .conftest import (
    act,
    address,
    client_with,
    document,
    hidden_fields,
    listed,
    messages_of,
    page_of,
    send,
    text_of,
    words,
)

pytestmark = pytest.mark.django_db

LISTS = address(ProfileList, "changelist")
MEMBERS = address(ListProfile, "changelist")
NO_SCHEDULE = {"schedule": "", "time_zone": "UTC", "delay_minutes": "0", "schedule_active": "on"}
NEW = {"name": "News", "priority": "0", "checker": "feed"} | NO_SCHEDULE


@pytest.fixture
def news():
    return make_list("News", 3)


def save(client, found, **values):
    return send(client, client.get(page_of(found)), **values)


def preview(client, found, what="sync", addresses=(), **fields):
    form = {"what": what, "addresses": "\n".join(addresses), "preview": "Preview"}
    return client.post(page_of(found, "import"), form | fields)


def apply(client, response, **fields):
    """Confirm what a preview shows."""
    return send(client, response, apply="Change the list", **fields)


def counts(response):
    change = response.context["change"]
    return change.added, change.removed, change.unchanged


# Lists


def test_the_lists_have_their_sizes_and_their_latest_runs(client, news):
    run = BatchManager().run_list(news.pk)
    make_list("Empty")
    html = text_of(client.get(LISTS))
    assert [found.name for found in client.get(LISTS).context["cl"].result_list] == ["Empty", "News"]
    assert f'<a href="{page_of(run)}">queued</a>' in html
    assert '<td class="field-total_profiles">3</td>' in html


def test_a_new_list_is_created_by_the_manager_and_leads_to_the_import(client):
    values = NEW | {"name": " Press  list ", "priority": "3", "checker": "http"}
    response = client.post(address(ProfileList, "add"), values, follow=True)
    created = ProfileList.objects.get()
    assert (created.name, created.priority, created.checker) == ("Press list", 3, "http")
    assert response.redirect_chain[-1][0] == page_of(created, "import")
    assert (last_line().action, last_line().actor, last_line().channel) == ("create_list", "superuser", "admin")


def test_a_name_that_is_taken_is_refused_by_its_field(client, news):
    with unchanged():
        response = client.post(address(ProfileList, "add"), NEW)
    assert "name" in response.context["adminform"].form.errors


def test_a_name_that_is_taken_in_between_is_refused_by_the_form(client, news, monkeypatch):
    monkeypatch.setattr(forms, "require_free_name", lambda name, but: None)
    with unchanged():
        response = client.post(address(ProfileList, "add"), NEW, follow=True)
    errors = response.context["adminform"].form.non_field_errors()
    assert errors == ["Another list has the name “News”. Choose another name."]


def test_an_edit_changes_only_the_edited_fields(client, news):
    page = client.get(page_of(news))
    assert BatchManager().change_list(news.pk, priority=5)
    response = send(client, page, name="Press")
    news.refresh_from_db()
    assert (news.name, news.priority, news.checker) == ("Press", 5, "feed")
    assert last_line().action == "change_list"
    assert messages_of(response)[0][0] == "success"


def test_the_page_shows_the_runs_and_leads_to_profiles_import_and_exports(client, news):
    run = BatchManager().run_list(news.pk)
    html = text_of(client.get(page_of(news)))
    for target in (
        page_of(run),
        f"{MEMBERS}?list={news.pk}",
        f"{address(Batch, 'changelist')}?list={news.pk}",
        f"{reverse('admin:batches_storyresult_reading')}?list={news.pk}",
        page_of(news, "import"),
        page_of(news, "run"),
        *(page_of(news, "export", kind) for kind in ("csv", "jsonl", "opml")),
    ):
        assert f'"{target}"' in html, target
    assert listed(client, Batch, list=news.pk) == [run]
    assert {line.action for line in listed(client, BatchLog, list=news.pk)} == {"create_list", "run_list"}


def test_the_page_draws_the_latest_runs_and_has_them_in_a_table(client, news):
    assert "No runs yet. Press “Run now”" in words(text_of(client.get(page_of(news))))
    first = run_list(news, ok("a"), failed(), ok())
    latest = run_list(news, ok(), ok())
    Batch.objects.update(run_seconds=75)
    page = document(client.get(page_of(news)))
    titles = [words(title) for title in page.xpath("(//svg[@class='runs-bars'])[1]//title")]
    times = [f"{localtime(run.created_at):%Y-%m-%d %H:%M}" for run in (first, latest)]
    assert titles == [
        f"“News”, {times[0]}, done: 2 ok, 1 failed, 1 new story, run time 1 min 15 s",
        f"“News”, {times[1]}, done: 2 ok, 1 pending, 0 new stories, run time 1 min 15 s",
    ]
    rows = page.xpath("//*[@id='runs-table']//tbody/tr")
    assert [[words(cell) for cell in row.xpath("td")[1:-1]] for row in rows] == [
        ["Done", "3", "2", "0", "0", "0"],
        ["Done", "3", "2", "1", "0", "1"],
    ]
    assert [row.xpath(".//a/@href") for row in rows] == [[page_of(latest)], [page_of(first)]]
    assert page.xpath("//h1")[0].text == "News"


def test_subscribers_are_shown_only_with_the_permission_to_change_the_list(client_of, news):
    subscribe(news, topics=["stories", "error"])
    curator, viewer = client_of("curator"), client_with("view_profilelist")
    assert "ada@example.org e-mail stories, error each run" in words(text_of(curator.get(page_of(news))))
    seen = words(text_of(viewer.get(page_of(news))))
    assert "1 subscription." in seen
    assert "ada@" not in seen


def test_the_page_of_a_run_names_its_list(client, news):
    run = BatchManager().run_list(news.pk)
    [link] = document(client.get(page_of(run))).xpath(f"//a[@href='{page_of(news)}']")
    assert words(link) == "News"


def test_a_deletion_says_what_is_kept_and_is_refused_after_a_change(client, news):
    run = BatchManager().run_list(news.pk)
    page = text_of(client.get(page_of(news, "delete")))
    assert "Delete the list “News” with 3 profiles? The profiles, the runs and their results are kept." in page
    seen = hidden_fields(page)["seen"]
    assert BatchManager().add_profiles(news.pk, urls(5))
    with unchanged():
        response = client.post(page_of(news, "delete"), {"post": "yes", "seen": seen}, follow=True)
    assert messages_of(response) == [("warning", "“News” has changed. Check it and try again.")]
    client.post(page_of(news, "delete"), {"post": "yes", "seen": "2"})
    assert not ProfileList.objects.exists()
    assert (Batch.objects.get(pk=run.pk).list, Profile.objects.count()) == (None, 5)


def test_an_export_has_the_profiles_of_the_list(client, news):
    response = client.get(page_of(news, "export", "csv"))
    assert response.getvalue().decode().splitlines() == ["url,name,feed_url", *(f"{url},," for url in urls(3))]
    assert client.get(page_of(news, "export", "pdf")).status_code == 404


# Schedules


def test_a_schedule_is_set_shown_in_words_and_switched_off(client, news):
    save(client, news, schedule="30 6 * * MON-FRI", time_zone="Europe/Berlin", delay_minutes="10")
    news.refresh_from_db()
    assert (news.schedule, news.time_zone, news.delay_minutes) == ("30 6 * * MON-FRI", "Europe/Berlin", 10)
    assert news.next_run_at is not None
    html = words(text_of(client.get(page_of(news))))
    assert "At 06:30 on Monday through Friday (Europe/Berlin), up to 10 minutes later" in html
    assert len(news.next_times) == 3
    for time in news.next_times:
        assert f"{time:%a %Y-%m-%d}" in html
    save(client, news, schedule_active=[])
    news.refresh_from_db()
    assert (news.schedule_active, news.next_run_at, news.schedule) == (False, None, "30 6 * * MON-FRI")


def test_a_new_list_can_have_a_schedule(client):
    client.post(address(ProfileList, "add"), NEW | {"schedule": "0 6 * * *"})
    assert ProfileList.objects.get().next_run_at is not None


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"schedule": "0 0 30 2 *"}, "schedule", "is not valid, or never comes."),
        ({"schedule": "0 6 * * *", "time_zone": "Mars"}, "time_zone", "“Mars” is not a known time zone."),
        ({"schedule": "0 * * * *", "delay_minutes": "60"}, "delay_minutes", "shorter than the time between two runs"),
    ],
)
def test_an_impossible_schedule_is_an_error_of_its_field(client, news, values, field, message):
    with unchanged():
        response = save(client, news, **values)
    assert message in " ".join(response.context["adminform"].form.errors[field])


# Runs


def test_run_now_queues_a_run_once(client, news):
    response = client.post(page_of(news, "run"), follow=True)
    run = news.runs.get()
    assert response.redirect_chain[-1][0] == page_of(run)
    assert messages_of(response) == [("success", "A run of “News” was queued at position 1.")]
    with unchanged():
        response = client.post(page_of(news, "run"), follow=True)
    assert messages_of(response) == [("warning", "A run of “News” is already waiting at position 1.")]
    assert client.get(page_of(news, "run")).status_code == 302


# The import


def test_a_preview_says_what_would_change_and_changes_nothing(client, news):
    with unchanged():
        response = preview(client, news, addresses=[*urls(5)[1:], "nonsense", urls(2)[1]])
    assert counts(response) == (2, 1, 2)
    text = words(text_of(response))
    for part in (
        "Added +2",
        "Removed −1",
        "Kept =2",
        "Duplicates skipped 1",
        "Rejected lines 1",
        "5 nonsense It has no",
    ):
        assert part in text, part
    assert "allow_removals" in text_of(response)  # a third of the list


@pytest.mark.parametrize(
    ("what", "addresses", "expected"),
    [("add", urls(5), urls(5)), ("remove", urls(2), urls(3)[2:]), ("sync", urls(4), urls(4))],
)
def test_the_previewed_import_is_applied(client, news, what, addresses, expected):
    response = apply(client, preview(client, news, what, addresses))
    assert urls_of(news) == expected
    assert response.redirect_chain[-1][0] == page_of(news)
    assert messages_of(response)[0][1].startswith("“News” was changed: +")
    assert (last_line().actor, last_line().channel) == ("superuser", "admin")


def test_removing_more_than_a_tenth_needs_a_tick(client, news):
    shown = preview(client, news, addresses=urls(1))
    with unchanged():
        response = apply(client, shown)
    assert "This would remove 2 of the 3 profiles of “News”, more than a tenth." in text_of(response)
    apply(client, shown, allow_removals="on")
    assert urls_of(news) == urls(1)


def test_a_list_that_has_changed_since_the_preview_is_previewed_again(client, news):
    make_batch(profiles=9)
    shown = preview(client, news, addresses=urls(4))
    assert BatchManager().add_profiles(news.pk, urls(9))
    with unchanged():
        response = apply(client, shown, allow_removals="on")
    assert counts(response) == (0, 5, 4)
    assert "The list has changed since the preview." in text_of(response)
    apply(client, response, allow_removals="on")
    assert urls_of(news) == urls(4)


def test_other_addresses_than_those_previewed_are_previewed_again(client, news):
    make_batch(profiles=9)
    shown = preview(client, news, addresses=urls(4))
    with unchanged():
        response = apply(client, shown, addresses="\n".join(urls(5)))
    assert counts(response) == (2, 0, 3)


def test_a_file_is_previewed_and_its_content_is_kept_in_the_form(client, news):
    file = SimpleUploadedFile("list.txt", "\n".join(urls(4)).encode())
    shown = client.post(page_of(news, "import"), {"what": "sync", "file": file, "preview": "Preview"})
    apply(client, shown)
    assert urls_of(news) == urls(4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "The list is empty. Choose a file or paste addresses."),
        ({"addresses": "https://a.example/", "what": "explode"}, "Select a valid choice."),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(client, news, fields, message):
    with unchanged():
        response = client.post(page_of(news, "import"), {"what": "add", "preview": "Preview"} | fields)
    assert message in text_of(response)


# Its profiles


def test_a_profile_is_given_another_address(client, news):
    member = news.profiles.earliest("pk")
    page = page_of(member)
    assert f'value="{urls(1)[0]}"' in text_of(client.get(page))
    response = client.post(page, {"address": "https://Example.net"}, follow=True)
    assert response.redirect_chain[-1][0] == f"{MEMBERS}?list={news.pk}"
    assert urls_of(news)[0] == "https://example.net/"
    with unchanged():
        response = client.post(page, {"address": urls(2)[1]}, follow=True)
        assert f"{urls(2)[1]} is already a profile." in text_of(response)  # Django capitalises the first letter
        assert "It has no scheme" in text_of(client.post(page, {"address": "nonsense"}))


def test_a_stale_form_does_not_undo_a_correction(client, news):
    member = news.profiles.first()
    stale = hidden_fields(text_of(client.get(page_of(member))))
    old, new = member.profile.url, "https://example.org/corrected"
    assert BatchManager().correct_address(news.pk, old, new)
    with unchanged():
        client.post(page_of(member), stale | {"address": old}, follow=True)
        response = client.post(page_of(member), stale | {"address": "https://example.org/other"}, follow=True)
    assert messages_of(response) == [("warning", f"“News” has no profile with the address {old}.")]
    assert f'value="{new}"' in text_of(response)


def test_selected_profiles_are_removed_after_a_question(client, news):
    other = make_list("Press", 3)
    first, *_ = news.profiles.order_by("pk")
    with unchanged():
        page = act(client, "remove_selected", first, url=f"{MEMBERS}?list={news.pk}")
    assert "1 profile will be removed from “News”. Its history is kept" in words(text_of(page))
    assert messages_of(send(client, page)) == [("success", "1 profile removed from “News”.")]
    assert (urls_of(news), urls_of(other)) == (urls(3)[1:], urls(3))


def test_the_profiles_of_a_list_are_not_counted_unless_they_are_filtered(client, news):
    for query, count, counted in (("", 3, False), ("&p=1", 3, False), ("&q=example.org/2", 1, True)):
        with CaptureQueriesContext(connection) as captured:
            assert client.get(f"{MEMBERS}?list={news.pk}{query}").context["cl"].result_count == count
        assert any("COUNT(" in line["sql"] for line in captured) == counted, query
    assert client.get(MEMBERS).context["cl"].result_count == 3


def test_all_matching_profiles_are_removed_only_from_the_list_that_was_shown(client, news):
    make_list("Press", 3)
    url = f"{MEMBERS}?list={news.pk}&q=example.org/2"
    send(client, act(client, "remove_selected", news.profiles.latest("pk"), url=url, select_across="1"))
    assert urls_of(news) == urls(2)
    question = act(client, "remove_selected", *news.profiles.all(), url=MEMBERS)
    assert BatchManager().add_profiles(news.pk, urls(3))
    with unchanged():
        response = send(client, question)
    assert messages_of(response) == [("warning", "The lists have changed. Check them again.")]
    assert "removed from “News”" in words(text_of(response))
    question = act(client, "remove_selected", *news.profiles.all(), url=f"{MEMBERS}?q=org/2", select_across="1")
    make_list("Added since", 3)
    response = send(client, question)
    assert "from “Added since”, “News”" in words(text_of(response))
    assert urls_of(ProfileList.objects.get(name="Added since")) == urls(3)


# Keeping a new batch


def test_a_new_batch_is_kept_as_a_list(client):
    values = {"name": "News", "priority": "0", "checker": "feed", "addresses": "\n".join(urls(2)), "queue": "on"}
    add = address(Batch, "add")
    shown = client.post(add, values | {"keep": "on", "preview": "Preview"})
    previewed = hidden_fields(text_of(shown))["previewed"]
    sent = values | {"keep": "on", "add": "Add batch", "previewed": previewed}
    client.post(add, sent)
    kept = ProfileList.objects.get()
    assert (kept.name, urls_of(kept), Batch.objects.get().list) == ("News", urls(2), kept)
    with unchanged():
        response = client.post(add, sent)
    assert "Another list has the name “News”. Choose another name." in text_of(response)


def test_keeping_is_offered_to_those_who_may_add_lists(client_of):
    add = reverse("admin:batches_batch_add")
    assert "Keep as a list" not in text_of(client_of("adder").get(add))
    assert "Keep as a list" in text_of(client_of("superuser").get(add))

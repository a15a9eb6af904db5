"""Lists: created, edited, imported, run and deleted through the API. `calls` has the permissions."""

import pytest

from batches.batch_manager import BatchManager
from batches.models import BatchLog, ProfileList, public_fields
from batches.tests.support.factories import failed, make_list, profile_ids, record, start_run, urls, urls_of

from .calls import post_file
from .conftest import make_user, nothing_changes, refusal_of, token_client

pytestmark = pytest.mark.django_db


def post(client, found, call, **body):
    return client.post(f"/api/lists/{found.pk}/{call}/", body)


def changed(answer):
    assert answer.status_code == 200, answer.content
    return tuple(answer.json()[name] for name in public_fields.CHANGE)


# Creating


def test_a_list_is_created_with_its_profiles_and_reports_each_entry(client):
    answer = client.post(
        "/api/lists/",
        {"name": "News", "priority": 3, "checker": "http", "profiles": [*urls(2), *urls(1), "nonsense", {"url": 5}]},
    )
    assert answer.status_code == 201
    body, created = answer.json(), ProfileList.objects.get()
    assert (created.name, created.priority, created.checker, urls_of(created)) == ("News", 3, "http", urls(2))
    assert (body["accepted"], body["duplicates"]) == (2, 1)
    assert [entry["index"] for entry in body["rejected"]] == [3, 4]
    assert body["list"] == client.get(answer["Location"]).json()
    assert body["list"].keys() == {*public_fields.LIST, "url"}
    assert BatchLog.objects.get().channel == "api"


def test_a_list_is_created_from_a_file_or_without_profiles(client):
    answer = post_file(client, "lists/", b"https://a.example/\nnonsense\n", name="File")
    assert (answer.json()["accepted"], answer.json()["rejected"][0]["line"]) == (1, 2)
    assert client.post("/api/lists/", {"name": "Empty"}).json()["list"]["total_profiles"] == 0
    assert client.post("/api/lists/", {"name": "Also empty", "profiles": []}).status_code == 201


# Reading


def test_the_lists_are_in_the_order_of_their_names_and_can_be_filtered(client):
    for name, priority, checker in (("Beta", 1, "feed"), ("Alpha", 2, "http"), ("Gamma", 2, "feed")):
        make_list(name, 1, priority=priority, checker=checker)

    def names(query=""):
        return [found["name"] for found in client.get(f"/api/lists/{query}").json()["results"]]

    assert names() == ["Alpha", "Beta", "Gamma"]
    assert names("?priority=2") == ["Alpha", "Gamma"]
    assert names("?checker=http") == ["Alpha"]
    assert names("?name=ET") == ["Beta"]
    assert names("?search=feed gamma") == ["Gamma"]
    assert names("?ordering=-priority,-name") == ["Gamma", "Alpha", "Beta"]
    assert names("?created_before=2020-01-01") == []


def test_the_profiles_of_a_list_are_in_its_order_with_their_last_check(client):
    found = make_list("News", 3)
    run = start_run(BatchManager().run_list(found.pk))
    record(run, [(profile_ids(run.batch)[1], failed())])
    answer = client.get(f"/api/lists/{found.pk}/profiles/").json()["results"]
    assert [member["url"] for member in answer] == urls(3)
    assert [bool(member["last_checked_at"]) for member in answer] == [False, True, False]
    failing = client.get(f"/api/lists/{found.pk}/profiles/?failing=true").json()["results"]
    assert [(member["url"], member["profile"]) for member in failing] == [(urls(2)[1], answer[1]["profile"])]
    assert client.get(f"/api/lists/{found.pk}/profiles/?host=example.net").json()["results"] == []


@pytest.mark.parametrize("kind", ["csv", "jsonl", "opml"])
def test_an_export_can_be_imported_again(client, kind):
    found = make_list("News of the day", 3)
    answer = client.get(f"/api/lists/{found.pk}/export/{kind}/")
    assert f'filename="news-of-the-day-{str(found.pk)[:8]}.{kind}"' in answer["Content-Disposition"]
    answer = post_file(client, f"lists/{found.pk}/sync/", b"".join(answer.streaming_content), f"list.{kind}")
    assert changed(answer) == (0, 0, 3)


def test_the_log_of_a_list_has_its_changes_and_its_runs(client):
    found = make_list("News", 1)
    assert post(client, found, "add", profiles=urls(3)).status_code == 200
    assert post(client, found, "run").status_code == 201
    lines = client.get(f"/api/lists/{found.pk}/logs/").json()["results"]
    assert [(line["action"], line["message"]) for line in lines] == [
        ("run_list", "3 profiles"),
        ("add_profiles", "+2 −0 =1"),
        ("create_list", "1 profile"),
    ]
    assert lines[0].keys() == set(public_fields.LOG)


# Editing


def test_attributes_are_changed_together(client, a_list):
    answer = client.patch(f"/api/lists/{a_list.pk}/", {"name": "Press", "priority": 7, "checker": "http"})
    assert answer.json() == client.get(f"/api/lists/{a_list.pk}/").json()
    a_list.refresh_from_db()
    assert (a_list.name, a_list.priority, a_list.checker, a_list.version) == ("Press", 7, "http", 2)
    make_list("taken")
    with nothing_changes():
        answer = client.patch(f"/api/lists/{a_list.pk}/", {"name": "taken", "priority": 1})
        assert refusal_of(answer) == (409, "already_exists")
        assert answer.json()["list"]["name"] == "Press"


def test_profiles_are_added_removed_and_imported_after_a_preview(client, a_list):
    answer = post(client, a_list, "add", profiles=[*urls(4), "nonsense"])
    assert changed(answer) == (2, 0, 2)
    assert (answer.json()["rejected"][0]["index"], answer.json()["list"]["total_profiles"]) == (4, 4)
    assert changed(post(client, a_list, "remove", profiles=urls(3))) == (0, 3, 1)
    assert urls_of(a_list) == urls(4)[3:]
    with nothing_changes():
        assert changed(post(client, a_list, "sync", profiles=urls(4), dry_run=True)) == (3, 0, 1)
    assert changed(post(client, a_list, "sync", profiles=urls(4))) == (3, 0, 1)
    with nothing_changes():
        answer = post(client, a_list, "sync", profiles=urls(1))
        assert refusal_of(answer) == (409, "too_many_removals")
        assert answer.json()["list"]["total_profiles"] == 4
    answer = post_file(client, f"lists/{a_list.pk}/sync/", b"https://example.org/0", allow_removals="true")
    assert changed(answer) == (0, 3, 1)


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("add", {"profiles": urls(2)}),
        ("remove", {"profiles": urls(1)}),
        ("sync", {"profiles": urls(2)}),
        ("sync", {"profiles": urls(2), "dry_run": True}),
        ("correct", {"address": urls(1)[0], "new_address": "https://example.org/new"}),
    ],
)
def test_an_edit_that_was_decided_from_an_older_version_is_refused(client, a_list, call, body):
    assert client.patch(f"/api/lists/{a_list.pk}/", {"priority": 1}).json()["version"] == 2
    with nothing_changes():
        answer = post(client, a_list, call, **body, list_version=1)
        assert refusal_of(answer) == (409, "stale_version")
        assert answer.json()["list"]["version"] == 2
    assert post(client, a_list, call, **body, list_version=2).status_code == 200


def test_an_address_is_corrected(client, a_list):
    answer = post(client, a_list, "correct", address=urls(1)[0], new_address="https://example.net/")
    assert answer.json()["version"] == 2
    assert urls_of(a_list) == ["https://example.net/", urls(2)[1]]
    with nothing_changes():
        answer = post(client, a_list, "correct", address="https://example.net/", new_address=urls(2)[1])
        assert refusal_of(answer) == (409, "already_exists")


# Schedules


def test_a_schedule_is_set_shown_in_words_and_switched_off(client, a_list):
    path = f"/api/lists/{a_list.pk}/"
    answer = client.patch(path, {"schedule": "30 6 * * *", "time_zone": "Asia/Kolkata", "delay_minutes": 0}).json()
    assert answer["schedule_in_words"] == "At 06:30 every day (Asia/Kolkata)"
    assert answer["next_run_at"] == answer["next_times"][0]
    assert [time[10:] for time in answer["next_times"]] == ["T01:00:00Z"] * 3
    assert client.get("/api/lists/?scheduled=true").json()["results"] == [answer]
    answer = client.patch(path, {"schedule_active": False}).json()
    assert (answer["next_run_at"], answer["next_times"], answer["schedule"]) == (None, [], "30 6 * * *")
    assert client.get("/api/lists/?scheduled=true").json()["results"] == []


# Running


def test_a_run_is_a_batch_of_the_list(client, a_list):
    answer = post(client, a_list, "run")
    assert answer.status_code == 201
    assert answer.json() == client.get(answer["Location"]).json()
    assert (answer.json()["list"], answer.json()["total_profiles"]) == (str(a_list.pk), 2)
    with nothing_changes():
        again = post(client, a_list, "run")
        assert refusal_of(again) == (409, "already_queued")
        assert again.json()["list"]["id"] == str(a_list.pk)
    BatchManager().create_batch("another")
    runs = client.get(f"/api/batches/?list={a_list.pk}").json()["results"]
    assert [run["id"] for run in runs] == [answer.json()["id"]]


def test_a_new_batch_is_kept_as_a_list(client):
    answer = client.post("/api/batches/", {"name": "News", "profiles": urls(2), "keep": True})
    kept = ProfileList.objects.get()
    assert (answer.json()["batch"]["list"], urls_of(kept)) == (str(kept.pk), urls(2))
    with nothing_changes():
        again = client.post("/api/batches/", {"name": "News", "profiles": urls(2), "keep": True})
        assert refusal_of(again) == (409, "already_exists")
        assert again.json().keys() == {"code", "detail"}


def test_keeping_a_batch_as_a_list_needs_the_permission_to_add_lists():
    body = {"name": "News", "profiles": urls(2), "keep": True}
    adder = token_client(make_user("add_batch"))
    with nothing_changes():
        assert refusal_of(adder.post("/api/batches/", body)) == (403, "permission_denied")
    assert adder.post("/api/batches/", body | {"keep": False}).status_code == 201
    both = token_client(make_user("add_batch", "add_profilelist", name="both"))
    assert both.post("/api/batches/", body).status_code == 201

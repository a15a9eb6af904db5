"""A batch's page: what it shows, its live part, its details, its form and its exports."""

from urllib.parse import parse_qs, quote, urlsplit

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from batches.admin import batch_page, records
from batches.batch_manager import BatchManager
from batches.lists import exports
from batches.lists.formats import read_profiles
from batches.models import Attempt, Batch, BatchLog, BatchProfile
from batches.queue.refusals import Code, Refusal
from batches.reports import queries, streams
from batches.tests.support.factories import empty_leases, failed, ok, profile_ids, record, start_run, unchanged

from .conftest import (
    VIEW,
    batch_with,
    client_with,
    document,
    facts,
    listed,
    messages_of,
    page_of,
    parts,
    reread,
    send,
    story,
    text_of,
    words,
)

pytestmark = pytest.mark.django_db

PROFILES = reverse("admin:batches_batchprofile_changelist")


def numbers(response):
    """The comparison's numbers, each with the (path, query) of its link."""
    return {
        words(name): (words(value), target(value.xpath("a")[0]))
        for name, value in document(response).xpath("//*[contains(@class, 'batch-numbers')]/div")
    }


def target(anchor):
    url = urlsplit(anchor.get("href"))
    return url.path, {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}


def filters(client, **query):
    """The options of each filter of the profiles' list, by its title."""
    specs = client.get(PROFILES, query).context["cl"].filter_specs
    return {spec.title: [title for _, title in getattr(spec, "lookup_choices", [])] for spec in specs}


@pytest.fixture
def repeat():
    """Of four profiles, of which the last one failed before: the first fails now, the last one is ok."""
    first = batch_with("done", name="the first", ok=3, failed=1, pending=0)
    repeat = BatchManager().repeat_batch(first.pk)
    record(start_run(repeat), zip(profile_ids(repeat), [failed("timed out"), ok(), ok(), ok()], strict=True))
    assert BatchManager().complete_batch(repeat.pk)
    return reread(repeat)


# Contents


@pytest.mark.parametrize("name", ["change", "live"])
def test_the_page_and_its_live_part_show_the_progress_of_the_batch(client, name):
    batch = batch_with("running", name="Morning feeds", ok=3, failed=2, pending=45)
    empty_leases(batch)
    Batch.objects.update(run_seconds=0.1)
    response = client.get(page_of(batch, name))
    texts, known = parts(response), facts(response)
    assert texts["batch-name"] == "Morning feeds"
    assert texts["batch-summary"].startswith("Running. Latest, ")
    assert texts["batch-summary"].endswith(": Claimed by worker a worker.")
    assert texts["batch-updated"].startswith("updated ")
    assert "paused → running" in texts["batch-log"]
    assert (known["Status"], known["Progress"], known["Rate"]) == ("Running", "5 of 50", "50/s")
    assert (known["Remaining"], known["Run time"], known["ID"]) == ("about 1 s", "0 s", str(batch.pk))
    assert "Last heartbeat" in known


def test_the_page_shows_the_error_and_the_batch_that_it_repeats(client):
    first = batch_with("error")
    repeat = BatchManager().repeat_batch(first.pk)
    assert "the disk is full" in parts(client.get(page_of(first)))["batch-facts"]
    assert f'href="{page_of(first)}"' in text_of(client.get(page_of(repeat)))


def test_the_history_is_the_log_of_the_batch(client):
    batch, other = batch_with("paused"), batch_with("queued")
    answer = client.get(page_of(batch, "history"), follow=True)
    assert answer.redirect_chain == [(f"{reverse('admin:batches_batchlog_changelist')}?batch={batch.pk}", 302)]
    assert set(answer.context["cl"].queryset) == set(batch.logs.all()) != set()
    assert other.logs.exists()


def test_the_log_is_shown_newest_first(client):
    batch = batch_with("paused")
    BatchManager("ada", "api").queue_batch(batch.pk)
    rows = document(client.get(page_of(batch))).xpath("//*[@id='batch-log']//tbody/tr")
    assert [[words(cell) for cell in row.xpath("td")[1:]] for row in rows] == [
        ["Queued by ada.", "paused → queued 1", "Api"],
        ["Created by maker: 1 profile", "– → paused", "Code"],
    ]


def test_each_part_has_at_most_twenty_rows_and_links_to_the_full_list(client):
    batch = batch_with("paused", ok=1, failed=1, stories=[story(f"story {number}") for number in range(25)])
    for priority in range(25):
        BatchManager().set_priority(batch.pk, priority + 1)
    response = client.get(page_of(batch))
    assert len(response.context["stories"]) == len(response.context["logs"]) == 20
    html = text_of(response)
    assert "story 24" in html
    assert "story 4<" not in html
    for name in ("batchlog", "storyresult", "batchprofile"):
        assert f"{reverse(f'admin:batches_{name}_changelist')}?batch={batch.pk}" in html


def test_the_live_part_reads_no_profiles_and_has_only_parts_of_the_page(client):
    batch = batch_with("running", ok=3, failed=1, stories=[story()])
    page = parts(client.get(page_of(batch)))
    with CaptureQueriesContext(connection) as captured:
        live = parts(client.get(page_of(batch, "live")))
    assert not [query["sql"] for query in captured if BatchProfile._meta.db_table in query["sql"]]
    for fresh in (live, parts(client.get(page_of(batch, "details")))):
        assert fresh
        assert fresh.keys() <= page.keys()


def test_progress_alone_does_not_change_what_screen_readers_announce(client):
    batch = batch_with("running", ok=1, pending=5)
    before = parts(client.get(page_of(batch, "live")))
    Batch.objects.update(completed_profiles=4, successful_checks=4)
    after = parts(client.get(page_of(batch, "live")))
    assert after["batch-summary"] == before["batch-summary"]
    assert after["batch-facts"] != before["batch-facts"]


def test_a_deleted_batch_is_not_found_and_its_page_says_so(client):
    batch = batch_with("paused")
    BatchManager().delete_batch(batch.pk)
    for name, args in {"live": [], "details": [], "export": ["csv"]}.items():
        assert client.get(page_of(batch, name, *args)).status_code == 404
    [(level, sentence)] = messages_of(client.get(page_of(batch), follow=True))
    assert (level, "doesn’t exist" in sentence) == ("warning", True)


def test_each_section_needs_the_permission_to_view_its_rows(client_of):
    batch = batch_with("running", ok=1, failed=1, stories=[story()])
    private, shown = ("A story", "Claimed by", "HTTP status 500"), text_of(client_of("viewer").get(page_of(batch)))
    assert [text for text in private if text not in shown] == []
    editor = client_of("editor")
    for view in ("change", "live", "details"):
        page = text_of(editor.get(page_of(batch, view)))
        assert [text for text in private if text in page] == [], view


# Details


def test_a_large_batch_opens_without_its_details_and_with_a_link_to_them(client, monkeypatch):
    monkeypatch.setattr(batch_page, "MAX_PROFILES_WITH_DETAILS", 3)
    batch = batch_with("done", ok=2, failed=2, pending=0)
    assert "HTTP status 500" in parts(client.get(page_of(batch), {"details": 1}))["batch-details"]
    assert "HTTP status 500" in parts(client.get(page_of(batch, "details")))["batch-details"]
    for name in ("count_checks_per_minute", "count_failure_reasons"):
        monkeypatch.setattr(queries, name, lambda *_: pytest.fail("read every row"))
    response = client.get(page_of(batch))
    assert "batch-details" not in parts(response)  # a swap must not replace the details by their link
    assert 'href="?details=1"' in text_of(response)


def test_the_details_are_out_of_date_once_something_has_changed(client):
    first = batch_with("done", ok=2, failed=1, pending=0)
    batch = BatchManager().repeat_batch(first.pk)

    def is_fresh():
        live = parts(client.get(page_of(batch, "live")))["batch-state"]
        return live == words(details.get_element_by_id("batch-details-state"))

    def read():
        return document(client.get(page_of(batch, "details")))

    details = read()
    BatchManager().set_priority(batch.pk, 3)
    assert is_fresh()
    for change in (
        lambda: Batch.objects.filter(pk=batch.pk).update(completed_profiles=1, failed_checks=1),
        lambda: Batch.objects.filter(pk=batch.pk).update(stories_found=1),
        lambda: BatchManager().retry_failed(first.pk),
        lambda: BatchManager().complete_batch(batch.pk),
    ):
        change()
        assert not is_fresh()
        details = read()
        assert is_fresh()


def test_the_charts_give_their_numbers_as_an_image_and_as_a_table(client):
    batch = batch_with("paused", ok=6, failed=1, pending=1)
    page = document(client.get(page_of(batch, "details")))
    outcomes, bars = page.xpath("//svg[@role='img']")
    assert words(outcomes.find("title")) == "Outcomes of 8 profiles"
    assert words(outcomes.find("desc")) == "Ok: 6, 75.0 %; Failed: 1, 12.5 %; Pending: 1, 12.5 %."
    assert words(bars.find("desc")).startswith("7 checks from ")
    labels = {name for image in (outcomes, bars) for name in image.get("aria-labelledby").split()}
    assert len(labels) == 4
    assert all(page.get_element_by_id(name) is not None for name in labels)
    rows = [[words(cell) for cell in row.xpath("td")] for row in page.xpath("//*[@id='chart-table']//tbody/tr")]
    assert [sum(int(row[column]) for row in rows) for column in (2, 3)] == [6, 1]
    unchecked = parts(client.get(page_of(batch_with(), "details")))["batch-details"]
    assert "No checks recorded yet." in unchecked
    assert "No failed profiles." in unchecked


def test_each_reason_has_its_count_and_links_to_the_profiles_that_failed_for_it(client):
    batch = batch_with("paused", ok=1, failed=3)
    reason = "100 % “odd” & #1\n+ = ?"
    row = batch.profiles.filter(status="failed")[0]
    BatchProfile.objects.filter(pk=row.pk).update(error=reason)
    BatchProfile.objects.filter(batch=batch, status="failed").exclude(pk=row.pk).update(error="")
    rows = document(client.get(page_of(batch, "details"))).xpath("//*[@aria-labelledby='failures-title']//tbody/tr")
    assert [[words(cell) for cell in row] for row in rows] == [
        ["", "2", "No reason given", "Recheck 2"],
        ["", "1", "100 % “odd” & #1 + = ?", "Recheck 1"],
    ]
    (path, query), (_, odd) = (target(row.xpath(".//a")[0]) for row in rows)
    assert path == PROFILES
    assert [len(listed(client, BatchProfile, **query)), listed(client, BatchProfile, **odd)] == [2, [row]]


def reason_ids(client, batch):
    """The names of the reasons, by the reason."""
    boxes = document(client.get(page_of(batch, "details"))).xpath("//input[@name='ticked']")
    return {box.get("aria-label").removeprefix("Select: "): box.get("value") for box in boxes}


ODD = "100 % “odd” & #1\r\n+ = ?\n"


@pytest.fixture
def three_reasons():
    batch = batch_with("done", ok=1, failed=3, pending=0)
    for row, error in zip(batch.profiles.filter(status="failed").order_by("pk"), ["gone", "slow", ODD], strict=True):
        BatchProfile.objects.filter(pk=row.pk).update(error=error)
    return batch


@pytest.mark.parametrize(
    ("ticked", "only", "expected"),
    [(["gone", ODD], "", {"gone", ODD}), ([], "slow", {"slow"}), (["gone", "slow"], ODD, {ODD})],
    ids=["ticked", "one", "one, whatever is ticked"],
)
def test_failures_are_rechecked_by_the_ticked_reasons_or_by_one(client, three_reasons, ticked, only, expected):
    known = {ODD if name.startswith("100") else name: pk for name, pk in reason_ids(client, three_reasons).items()}
    page = document(client.get(page_of(three_reasons)))
    sent = dict(page.get_element_by_id("recheck").form_values()) | {"ticked": [known[name] for name in ticked]}
    button = page.get_element_by_id(f"recheck-{known[only]}" if only else "recheck-ticked")
    pressed = {"only": known[only]} if only else {}
    response = client.post(button.get("formaction"), sent | pressed, follow=True)
    sentence = "“a batch” was queued to recheck the profiles that failed for these reasons."
    assert messages_of(response) == [("success", sentence)]
    assert set(three_reasons.attempts.values_list("error", flat=True)) == expected
    assert reread(three_reasons).failed_checks == 3 - len(expected)
    assert 'id="earlier-checks"' in text_of(client.get(page_of(three_reasons)))
    assert reason_ids(client, three_reasons) == {}  # not offered while it is queued


def test_a_ticked_reason_counts_even_if_it_is_no_longer_one_of_the_most_frequent(client):
    batch = batch_with("done", failed=41, pending=0)
    rows = batch.profiles.filter(pk__in=batch.profiles.order_by("pk").values("pk")[:1])
    rows.update(error="gone")
    ticked = reason_ids(client, batch)["gone"]
    for number, pk in enumerate(batch.profiles.exclude(error="gone").values_list("pk", flat=True)):
        BatchProfile.objects.filter(pk=pk).update(error=f"reason {number // 2}")
    assert "gone" not in reason_ids(client, batch)
    sent = {"call": "retry_failed", "chosen": "yes", "ticked": [ticked]}
    client.post(f"{page_of(batch, 'operate')}?status=done", sent)
    assert list(batch.attempts.values_list("error", flat=True)) == ["gone"]


@pytest.mark.parametrize("sent", [{}, {"ticked": "nonsense"}, {"only": "\0"}])
def test_without_a_known_reason_nothing_is_rechecked(client, three_reasons, sent):
    with unchanged():
        form = {"call": "retry_failed", "chosen": "yes"} | sent
        response = client.post(f"{page_of(three_reasons, 'operate')}?status=done", form, follow=True)
        assert messages_of(response) == [("warning", "Choose 1 to 100 reasons, as the batch shows them.")]


def test_boxes_to_tick_need_the_permission_to_operate(client_of, three_reasons):
    assert reason_ids(client_of("viewer"), three_reasons) == {}


def test_ticked_profiles_are_rechecked_in_their_batches(client, three_reasons):
    paused = batch_with("paused", ok=1, failed=1)
    chosen = [three_reasons.profiles.get(error="slow"), *paused.profiles.exclude(status="pending")]
    form = {"action": "recheck_selected", "_selected_action": [row.pk for row in chosen]}
    response = client.post(PROFILES, form, follow=True)
    assert [level for level, _ in messages_of(response)] == ["success", "success"]
    for queued in (three_reasons, paused):
        assert f'href="{page_of(queued)}"' in text_of(response)
    assert all(text.endswith("was queued to recheck 1 failed profile.") for _, text in messages_of(response))
    assert [batch.failed_checks for batch in map(reread, (three_reasons, paused))] == [2, 0]
    assert [batch.attempts.count() for batch in (three_reasons, paused)] == [1, 1]
    with unchanged():
        for rows, sentence in (
            ([chosen[0]], "None of the selected profiles has failed."),
            ([three_reasons.profiles.get(error="gone")], "“a batch” is queued. Only a batch that is"),
        ):
            [(level, text)] = messages_of(
                client.post(PROFILES, form | {"_selected_action": [row.pk for row in rows]}, follow=True)
            )
            assert (level, text[: len(sentence)]) == ("warning", sentence)


def test_too_many_ticked_profiles_are_refused_with_advice(client, three_reasons, monkeypatch):
    monkeypatch.setattr(records, "MAX_BULK", 2)
    rows = {"action": "recheck_selected", "_selected_action": [row.pk for row in three_reasons.profiles.all()]}
    [(level, text)] = messages_of(client.post(PROFILES, rows, follow=True))
    assert (level, text.startswith("Select at most 2 failed profiles, or")) == ("warning", True)
    assert not three_reasons.attempts.exists()


def test_only_the_failed_profiles_can_be_exported(client, three_reasons):
    address = f"{page_of(three_reasons, 'export', 'csv')}?status=failed"
    assert f'href="{address}" download' in text_of(client.get(page_of(three_reasons)))
    response = client.get(address)
    assert "a-batch-failed-" in response["Content-Disposition"]
    assert len(response.getvalue().decode("utf-8-sig").splitlines()) >= 4
    assert b",ok," not in client.get(address).getvalue()
    assert client.get(f"{address}nonsense").status_code == 404


def test_earlier_checks_are_listed_and_have_a_page(client, three_reasons):
    assert BatchManager().retry_failed(three_reasons.pk, reasons=["gone"])
    [earlier] = listed(client, Attempt, batch=three_reasons.pk)
    assert earlier.error == "gone"
    assert "gone" in text_of(client.get(page_of(earlier)))


def test_a_repeat_is_compared_and_each_number_links_to_its_profiles(client, repeat):
    response = client.get(page_of(repeat, "details"))
    found = numbers(response)
    assert {name: number for name, (number, _) in found.items()} == {
        "Stories since then": "0",
        "Newly failing": "1",
        "Recovered": "1",
        "Unchanged": "2",
        "Not compared": "0",
    }
    del found["Stories since then"]
    for name, (number, (path, query)) in found.items():
        assert path == PROFILES
        assert len(listed(client, BatchProfile, **query)) == int(number), name
    assert f'href="{page_of(repeat.previous)}"' in text_of(response)


# Filters of the profiles' list


def test_the_profiles_of_a_batch_can_be_filtered_by_its_most_frequent_errors(client):
    batch = batch_with("paused", ok=1, failed=3)
    row = batch.profiles.filter(status="failed")[0]
    BatchProfile.objects.filter(pk=row.pk).update(error="x" * 100)
    batch_with("paused", failed=1)
    assert filters(client, batch=batch.pk)["error"] == ["HTTP status 500 (2)", f"{'x' * 59}… (1)"]
    assert len(listed(client, BatchProfile, batch=batch.pk, error="HTTP status 500")) == 2
    assert listed(client, BatchProfile, batch=batch.pk, error="x" * 100) == [row]
    assert len(listed(client, BatchProfile, error="HTTP status 500")) == 3
    assert listed(client, BatchProfile, batch=batch.pk, error="never happened") == []


def test_errors_need_a_batch_and_changes_need_a_repeat(client, repeat):
    name = "change since the previous batch"
    assert filters(client).keys() == {"outcome", "new story"}
    assert filters(client, batch=repeat.pk)[name] == ["Newly failing", "Recovered", "Unchanged", "Not compared"]
    assert filters(client, batch=repeat.previous_id).keys() & {"error", name} == {"error"}
    [row] = listed(client, BatchProfile, batch=repeat.pk, change="newly_failing")
    assert (row.batch, row.error) == (repeat, "timed out")
    assert listed(client, BatchProfile, batch=repeat.pk, change="newly_failing", status__exact="ok") == []
    assert listed(client, BatchProfile, change="recovered") == []
    for change in ("", "nonsense", "\0", "x" * 3000):
        assert listed(client, BatchProfile, batch=repeat.pk, change=change) == []


# The form


def test_name_and_priority_are_changed_by_the_manager(client_of):
    batch_with()
    batch, client = batch_with(), client_of("editor")
    send(client, client.get(page_of(batch)), name=" a  new name", priority="5")
    after = reread(batch)
    assert (after.name, after.priority, after.position) == ("a new name", 5, 1)
    logs = BatchLog.objects.filter(batch=batch, actor="editor", channel="admin")
    assert set(logs.values_list("action", flat=True)) == {"rename_batch", "set_priority"}


@pytest.mark.parametrize(
    "fields", [{"name": ""}, {"name": "a\0"}, {"name": "\u200b"}, {"priority": "32768"}, {"priority": ""}]
)
def test_invalid_values_are_an_error_in_the_form(client, fields):
    batch = batch_with()
    with unchanged():
        response = client.post(page_of(batch), {"name": "a batch", "priority": "0"} | fields)
        assert len(response.context["errors"]) == 1


def test_a_refused_name_is_a_warning_and_not_a_success(client, monkeypatch):
    batch, refused = batch_with(), Refusal(Code.NOT_FOUND, "It was deleted.")
    monkeypatch.setattr(BatchManager, "rename_batch", lambda *_: refused)
    response = client.post(page_of(batch), {"name": "renamed", "priority": "0"}, follow=True)
    assert [level for level, _ in messages_of(response)] == ["warning"]
    assert reread(batch).name == "a batch"
    assert not LogEntry.objects.exists()


def test_a_stale_form_changes_only_the_edited_fields(client):
    batch = batch_with("queued", pending=3)
    stale = client.get(page_of(batch))
    BatchManager().set_priority(batch.pk, 9)
    BatchManager().start_batch(batch.pk)
    Batch.objects.update(completed_profiles=2, successful_checks=2)
    send(client, stale, name="renamed")
    after = reread(batch)
    assert (after.name, after.priority, after.status, after.completed_profiles) == ("renamed", 9, "running", 2)


def test_a_forged_save_as_new_inserts_nothing(client):
    batch = batch_with()
    assert client.post(page_of(batch), {"name": "copy", "priority": "0", "_saveasnew": "1"}).status_code == 403
    assert Batch.objects.count() == 1


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_users_who_may_not_change_a_batch_see_no_form(client_of, role):
    html = text_of(client_of(role).get(page_of(batch_with())))
    for text in ('name="priority"', 'class="readonly"', "Save", "Delete"):
        assert text not in html


# Exports


@pytest.mark.parametrize("form", exports.EXPORTERS)
def test_a_batch_can_be_exported_and_imported_again(client_of, form):
    batch = batch_with("paused", name="Presse & Ämter / 1", ok=2, failed=1)
    response = client_of("viewer").get(page_of(batch, "export", form))
    assert response.streaming
    name = f"presse-ämter-1-{str(batch.pk)[:8]}.{form}"
    plain = name.replace("ä", "a")
    assert response["Content-Disposition"] == f"attachment; filename=\"{plain}\"; filename*=utf-8''{quote(name)}"
    profiles = read_profiles(response.getvalue(), filename=name).profiles
    assert list(profiles) == [row.url for row in streams.stream_rows(batch.profiles.all())]


@pytest.mark.parametrize("missing", ["view_batchprofile", "view_profile"])
def test_an_export_requires_the_permission_for_results_and_for_profiles(missing):
    batch, client = batch_with("paused", ok=1), client_with(*{*VIEW} - {missing})
    assert client.get(page_of(batch, "export", "csv")).status_code == 403
    assert page_of(batch, "export", "csv") not in text_of(client.get(page_of(batch)))


def test_other_formats_are_not_found(client):
    assert client.get(page_of(batch_with(), "export", "xlsx")).status_code == 404

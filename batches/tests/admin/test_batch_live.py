"""A batch's page while it is looked at: its live part, what is dear, its buttons by script, filters, exports."""

import csv
import io
import tracemalloc
from email.message import Message
from email.utils import collapse_rfc2231_value
from urllib.parse import parse_qs, urlsplit

import lxml.html
import pytest
from django.urls import reverse

from batches.admin import batch_page
from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult
from batches.lists import exports
from batches.lists.reading import read_profiles
from batches.models import Batch, BatchLog, BatchProfile, StoryResult
from batches.reports import queries

from .conftest import batch_with, queries_of, reread, state, story, text_of

pytestmark = pytest.mark.django_db

BY_SCRIPT = {"X-Requested-With": "fetch"}
ROLES = ["anonymous", "staff", "viewer", "operator", "adder", "editor", "superuser"]
PROFILES = reverse("admin:batches_batchprofile_changelist")
SCRIPT = "<script>alert(1)</script>"


def url(name, batch, *args):
    return reverse(f"admin:batches_batch_{name}", args=[batch.pk, *args])


def press(client, call, batch, **options):
    return client.post(url("operate", batch), {"call": call}, headers=BY_SCRIPT, **options)


def document(response):
    return lxml.html.fromstring(text_of(response))


def words(element):
    return " ".join(" ".join(element.itertext()).split())


def parts(response):
    return {part.get("id"): words(part) for part in document(response).xpath("//*[@data-part]")}


def facts(response):
    return {words(name): words(value) for name, value in document(response).xpath("//*[@id='batch-facts']//dl/div")}


def numbers(response):
    """The comparison's numbers, each with the (path, query) to which it leads."""
    return {
        words(name): (words(value), link(value.xpath("a")[0]))
        for name, value in document(response).xpath("//*[@class='batch-numbers']/div")
    }


def link(anchor):
    address = urlsplit(anchor.get("href"))
    return address.path, {name: values[0] for name, values in parse_qs(address.query, keep_blank_values=True).items()}


def found(client, **query):
    return list(client.get(PROFILES, query).context["cl"].result_list)


def filters(client, **query):
    """What each filter of the profiles' list offers, by its title."""
    specs = client.get(PROFILES, query).context["cl"].filter_specs
    return {spec.title: [title for _, title in getattr(spec, "lookup_choices", [])] for spec in specs}


def fail_again(batch, *errors):
    """A repeat in which the first profiles fail for these reasons and the others are ok."""
    repeat = BatchManager("maker").repeat_batch(batch.pk)
    BatchManager().start_batch(repeat.pk)
    run = BatchManager().claim_run("a worker")
    ids = repeat.profiles.order_by("pk").values_list("profile_id", flat=True)
    reasons = dict(enumerate(errors))
    results = [(pk, CheckResult(ok=index not in reasons, error=reasons.get(index, ""))) for index, pk in enumerate(ids)]
    assert BatchManager().record_results(repeat.pk, run.run_token, results)
    assert BatchManager().complete_batch(repeat.pk)
    return reread(repeat)


@pytest.fixture
def repeat():
    """Of four profiles, of which the last one failed before: the first fails now, the last one is ok."""
    return fail_again(batch_with("done", name="the first", ok=3, failed=1, pending=0), "timed out")


# The live part


def test_the_live_part_tells_how_the_batch_is_getting_on(client):
    batch = batch_with("running", name="Morning feeds", ok=3, failed=2, pending=45)
    Batch.objects.update(run_seconds=0.1)
    response = client.get(url("live", batch))
    shown = parts(response)
    assert shown["batch-name"] == "Morning feeds"
    assert shown["batch-summary"].startswith("Running. Latest: claim_run by maker, ")
    assert shown["batch-updated"].startswith("updated ")
    assert shown["batch-buttons"] == "Pause Repeat"
    assert "queued 1 → running" not in shown["batch-log"]
    assert "paused → running" in shown["batch-log"]
    known = facts(response)
    assert (known["Status"], known["Progress"], known["Rate"], known["Remaining"]) == (
        "Running",
        "5 of 50",
        "50/s",
        "about 1 s",
    )


def test_the_live_part_is_made_of_parts_that_the_page_has(client):
    batch = batch_with("running", ok=1, stories=[story()])
    page = parts(client.get(url("change", batch)))
    for name in ("live", "details"):
        fresh = parts(client.get(url(name, batch)))
        assert fresh
        assert set(fresh) <= set(page)


def test_the_live_part_takes_the_same_few_queries_whatever_there_is_to_show(client):
    small = batch_with("paused", ok=1)
    client.get(url("live", small))
    before = queries_of(lambda: client.get(url("live", small)))
    big = batch_with("running", ok=30, failed=30, stories=[story(str(number)) for number in range(30)])
    for priority in range(30):
        BatchManager().set_priority(big.pk, priority + 1)
    assert queries_of(lambda: client.get(url("live", big))) == before
    assert before <= 5  # session, user, batch, log, and the batch before if there is one


def test_the_live_part_reads_no_row_of_a_profile(client, django_assert_max_num_queries):
    batch = batch_with("running", ok=3, failed=1)
    with django_assert_max_num_queries(9) as captured:
        client.get(url("live", batch))
    assert not [query["sql"] for query in captured if BatchProfile._meta.db_table in query["sql"]]


def test_what_is_read_out_stays_the_same_while_only_the_progress_moves(client):
    batch = batch_with("running", ok=1, pending=5)
    before = parts(client.get(url("live", batch)))
    Batch.objects.update(completed_profiles=4, successful_checks=4)
    after = parts(client.get(url("live", batch)))
    assert after["batch-summary"] == before["batch-summary"]
    assert after["batch-facts"] != before["batch-facts"]


# What is dear


def test_a_large_batch_opens_without_what_is_dear_and_with_a_way_to_it(client, monkeypatch):
    monkeypatch.setattr(batch_page, "MAX_PROFILES_WITH_DETAILS", 3)
    batch = batch_with("done", ok=2, failed=2, pending=0)
    response = client.get(url("change", batch))
    assert "batch-details" not in parts(response)  # a swap must not put its place in place of it
    assert 'href="?details=1"' in text_of(response)
    assert "HTTP status 500" in parts(client.get(url("change", batch), {"details": 1}))["batch-details"]
    assert "HTTP status 500" in parts(client.get(url("details", batch)))["batch-details"]


def test_a_large_batch_is_not_counted_to_open_its_page(client, monkeypatch):
    batch = batch_with("done", ok=2, failed=2, pending=0)
    monkeypatch.setattr(batch_page, "MAX_PROFILES_WITH_DETAILS", 3)
    for name in ("checks_per_minute", "failure_reasons"):
        monkeypatch.setattr(queries, name, lambda *_: pytest.fail("read every row"))
    client.get(url("change", batch))


def test_what_is_dear_is_known_to_be_old_once_something_has_changed(client):
    first = batch_with("done", ok=2, failed=1, pending=0)
    batch = BatchManager().repeat_batch(first.pk)

    def is_fresh():
        live = parts(client.get(url("live", batch)))["batch-state"]
        return live == words(details.get_element_by_id("batch-details-state"))

    def read():
        return document(client.get(url("details", batch)))

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


def test_the_charts_say_their_numbers_as_an_image_and_as_a_table(client):
    batch = batch_with("paused", ok=6, failed=1, pending=1)
    page = document(client.get(url("details", batch)))
    outcomes, bars = page.xpath("//svg[@role='img']")
    assert words(outcomes.find("title")) == "Outcomes of 8 profiles"
    assert words(outcomes.find("desc")) == "Ok: 6, 75.0 %; Failed: 1, 12.5 %; Pending: 1, 12.5 %."
    assert words(bars.find("desc")).startswith("7 checks from ")
    named = {name for image in (outcomes, bars) for name in image.get("aria-labelledby").split()}
    assert len(named) == 4
    assert all(page.get_element_by_id(name) is not None for name in named)
    rows = [[words(cell) for cell in row.xpath("td")] for row in page.xpath("//*[@id='chart-table']//tbody/tr")]
    assert [sum(int(row[column]) for row in rows) for column in (2, 3)] == [6, 1]


def test_a_batch_that_nobody_has_begun_has_no_chart_of_checks(client):
    shown = parts(client.get(url("details", batch_with())))["batch-details"]
    assert "No checks recorded yet." in shown
    assert "No failed profiles." in shown
    assert "Compared" not in shown


def test_each_reason_leads_to_the_profiles_that_failed_for_it(client):
    batch = batch_with("paused", ok=1, failed=3)
    reason = "100 % “odd” & #1\n+ = ?"
    row = batch.profiles.filter(status="failed")[0]
    BatchProfile.objects.filter(pk=row.pk).update(error=reason)
    BatchProfile.objects.filter(batch=batch, status="failed").exclude(pk=row.pk).update(error="")
    links = document(client.get(url("details", batch))).xpath("//a[starts-with(@id, 'reason-')]")
    assert [words(anchor) for anchor in links] == ["No reason given", "100 % “odd” & #1 + = ?"]
    (path, query), (_, odd) = map(link, links)
    assert path == PROFILES
    assert [len(found(client, **query)), found(client, **odd)] == [2, [row]]


def test_a_repeat_is_compared_with_the_batch_before_and_each_number_leads_to_its_profiles(client, repeat):
    response = client.get(url("details", repeat))
    shown = numbers(response)
    assert {name: number for name, (number, _) in shown.items()} == {
        "Stories since then": "0",
        "Newly failing": "1",
        "Recovered": "1",
        "Unchanged": "2",
        "Not compared": "0",
    }
    for name, (number, (path, query)) in shown.items():
        if name != "Stories since then":
            assert path == PROFILES
            assert len(found(client, **query)) == int(number), name
    assert f'href="{url("change", repeat.previous)}"' in text_of(response)


def test_a_batch_before_that_is_gone_is_not_mentioned(client, repeat):
    assert facts(client.get(url("live", repeat)))["Repeat of"] == "the first"
    Batch.everything.filter(pk=repeat.previous_id).update(deleted_at=repeat.created_at)  # its rows go later
    response = client.get(url("change", repeat))
    assert "Repeat of" not in facts(response)
    assert "Compared" not in parts(response)["batch-details"]


@pytest.mark.parametrize("role", ["viewer", "adder"])
def test_links_lead_only_where_the_person_may_go(client_of, role):
    batch = batch_with("paused", ok=1, failed=1, stories=[story()])
    html = text_of(client_of(role).get(url("change", batch)))
    may = role == "viewer"
    for address in (PROFILES, reverse("admin:batches_storyresult_changelist"), f"{url('export', batch, 'csv')}"):
        assert (f'href="{address}' in html) is may


# Filters of the profiles' list


def test_the_profiles_of_a_batch_can_be_filtered_by_its_most_frequent_errors(client):
    batch = batch_with("paused", ok=1, failed=3)
    row = batch.profiles.filter(status="failed")[0]
    BatchProfile.objects.filter(pk=row.pk).update(error="x" * 100)
    batch_with("paused", failed=1)
    offered = filters(client, batch=batch.pk)["error"]
    assert offered == ["HTTP status 500 (2)", f"{'x' * 59}… (1)"]
    assert len(found(client, batch=batch.pk, error="HTTP status 500")) == 2
    assert found(client, batch=batch.pk, error="x" * 100) == [row]
    assert len(found(client, error="HTTP status 500")) == 3
    assert found(client, batch=batch.pk, error="never happened") == []


def test_without_a_batch_neither_errors_nor_changes_are_offered(client, repeat):
    assert set(filters(client)) == {"outcome", "new story"}
    assert "error" in filters(client, batch=repeat.pk)


def test_only_a_repeat_can_be_filtered_by_change(client, repeat):
    name = "change since the previous batch"
    assert filters(client, batch=repeat.pk)[name] == ["Newly failing", "Recovered", "Unchanged", "Not compared"]
    assert name not in filters(client, batch=repeat.previous_id)
    [row] = found(client, batch=repeat.pk, change="newly_failing")
    assert (row.batch, row.error) == (repeat, "timed out")
    assert found(client, batch=repeat.pk, change="newly_failing", status__exact="ok") == []


@pytest.mark.parametrize("change", ["", "nonsense", "\0", "x" * 3000])
def test_a_change_that_there_is_not_finds_nothing(client, repeat, change):
    assert found(client, batch=repeat.pk, change=change) == []
    assert found(client, change="recovered") == []


def test_the_filters_take_no_query_for_each_row(client, repeat):
    def look():
        return queries_of(lambda: client.get(PROFILES, {"batch": repeat.pk, "change": "unchanged", "error": "x"}))

    look()
    before = look()
    bigger = fail_again(batch_with("done", ok=20, failed=9, pending=0), *map(str, range(9)))
    assert queries_of(lambda: client.get(PROFILES, {"batch": bigger.pk, "change": "unchanged", "error": "x"})) == before


# Buttons by script


def test_the_script_gets_a_refusal_as_such(client_of):
    batch_with("running", name="the running one")
    batch = batch_with()
    before, logs = state(), BatchLog.objects.count()
    client = client_of("operator")
    response = press(client, "start_batch", batch)
    assert (response.status_code, response.headers["Content-Type"]) == (409, "text/plain; charset=utf-8")
    assert (
        response.content.decode()
        == "“the running one” is running, and only one batch can run at a time. Pause it first."
    )
    assert (state(), BatchLog.objects.count()) == (before, logs)
    assert "messagelist" not in text_of(client.get(url("change", batch)))  # it was told already


def test_what_was_done_is_said_on_the_page_to_which_the_script_is_led(client_of):
    batch = batch_with()
    response = press(client_of("operator"), "pause_batch", batch, follow=True)
    assert "“a batch” was paused." in parts(response)["batch-messages"]
    assert reread(batch).status == "paused"


def test_the_script_is_told_where_the_repeat_is(client_of):
    batch = batch_with("done")
    client = client_of("operator")
    response = press(client, "repeat_batch", batch)
    address = url("change", batch.repeats.get())
    assert (response.status_code, response.headers["Location"]) == (201, address)
    assert "A repeat of “a batch” was queued." in parts(client.get(address))["batch-messages"]


# Who sees what


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ["live", "details"])
def test_only_who_may_view_batches_looks(client_of, role, name):
    response = client_of(role).get(url(name, batch_with()))
    assert response.status_code == {"anonymous": 302, "staff": 403}.get(role, 200)


@pytest.mark.parametrize("role", ["viewer", "adder", "editor"])
def test_who_may_not_operate_sees_all_but_the_buttons(client_of, role):
    batch = batch_with("running", ok=1)
    client = client_of(role)
    for name in ("live", "change"):
        response = client.get(url(name, batch))
        assert parts(response)["batch-buttons"] == ""
        assert facts(response)["Progress"] == "1 of 2"
        assert 'id="operate"' not in text_of(response)


def test_the_live_part_of_a_batch_that_is_gone_is_not_found(client):
    batch = batch_with("paused")
    BatchManager().delete_batch(batch.pk)
    for name, args in {"live": [], "details": [], "export": ["csv"]}.items():
        assert client.get(url(name, batch, *args)).status_code == 404


def test_scripts_in_texts_are_escaped_in_the_live_part_too(client):
    batch = batch_with("paused", name=SCRIPT, ok=1, failed=1, stories=[story(SCRIPT)])
    repeat = BatchManager(SCRIPT).repeat_batch(batch.pk)
    Batch.objects.update(error=SCRIPT)
    BatchProfile.objects.filter(status="failed").update(error=f'{SCRIPT}"')
    for each in (batch, repeat):
        for name in ("live", "details"):
            assert SCRIPT not in text_of(client.get(url(name, each)))


# Exports


@pytest.mark.parametrize("form", exports.EXPORTERS)
def test_a_batch_can_be_exported_and_imported_again(client_of, form):
    batch = batch_with("paused", name="Presse & Ämter / 1", ok=2, failed=1)
    response = client_of("viewer").get(url("export", batch, form))
    assert response.streaming
    name = f"presse-ämter-1-{str(batch.pk)[:8]}.{form}"
    assert response.headers["Content-Disposition"].startswith("attachment; ")
    assert parse_name(response.headers["Content-Disposition"]) == name
    profiles = read_profiles(response.getvalue(), filename=name).profiles
    assert [profile.url for profile in profiles] == [row.url for row in queries.all_rows(batch)]


def parse_name(header):
    message = Message()
    message["Content-Disposition"] = header
    return collapse_rfc2231_value(message.get_param("filename", header="Content-Disposition"))


def test_a_spreadsheet_gets_results_and_no_formula(client):
    batch = batch_with("paused", ok=1, failed=1)
    BatchProfile.objects.filter(status="failed").update(error="=1+1")
    response = client.get(url("export", batch, "csv"))
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(response.getvalue().decode())))
    assert [(row["status"], row["error"]) for row in rows] == [
        ("ok", ""),
        ("failed", "'=1+1"),
        ("pending", ""),
    ]


def test_an_export_is_sent_as_it_is_read(client, monkeypatch):
    monkeypatch.setattr(queries, "STREAM_CHUNK", 10)
    monkeypatch.setattr("batches.web.downloads.CHUNK_LINES", 5)
    batch = batch_with(pending=50)
    stream = client.get(url("export", batch, "jsonl")).streaming_content
    assert next(stream).count(b"\n") == 5
    batch.profiles.order_by("-pk")[0].delete()
    assert sum(piece.count(b"\n") for piece in stream) == 44


def test_an_exports_memory_does_not_grow_with_the_batch(client, monkeypatch):
    monkeypatch.setattr(queries, "STREAM_CHUNK", 100)
    monkeypatch.setattr("batches.web.downloads.CHUNK_LINES", 100)
    response = client.get(url("export", batch_with(pending=6000), "jsonl"))
    tracemalloc.start()
    size = sum(len(piece) for piece in response.streaming_content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 1_000_000
    assert peak < size / 2  # what is left of the pages before is collected now and then


@pytest.mark.parametrize("role", ROLES)
def test_only_who_may_view_results_and_profiles_exports(client_of, role):
    response = client_of(role).get(url("export", batch_with(), "csv"))
    expected = {"anonymous": 302, "viewer": 200, "operator": 200, "superuser": 200}
    assert response.status_code == expected.get(role, 403)


@pytest.mark.parametrize("form", ["xlsx", "csv2", "CSV", "__init__"])
def test_there_is_no_other_export(client, form):
    assert client.get(f"/admin/batches/batch/{batch_with().pk}/export/{form}/").status_code == 404


def test_looking_changes_nothing(client, repeat):
    before, logs, stories = state(), BatchLog.objects.count(), StoryResult.objects.count()
    for name, args in {"live": [], "details": [], "export": ["csv"], "change": []}.items():
        response = client.get(url(name, repeat, *args))
        assert response.status_code == 200
        if response.streaming:
            response.getvalue()
    assert (state(), BatchLog.objects.count(), StoryResult.objects.count()) == (before, logs, stories)

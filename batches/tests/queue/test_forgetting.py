"""Forgetting a profile leaves no trace, keeps every ledger exact, and breaks no other call that stores rows for it."""

import json
from functools import partial

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult, Story
from batches.models import Batch, BatchLog, ListProfile, Profile, ProfileList, StoryResult, WebhookDelivery
from batches.models.api import StoredResponse
from batches.notifications import message_data
from batches.queue import contents, forgetting, lists, resets, results, schedules
from batches.queue.forgetting import LOGGED, Traces, count_traces
from batches.queue.refusals import Code
from batches.tests.support.factories import (
    assert_sound,
    check_batch,
    failed,
    half_checked,
    make_batch,
    make_list,
    ok,
    profile_ids,
    propose_redirect,
    record,
    row_statuses,
    run_list,
    start_run,
    subscribe,
    unchanged,
    urls,
    urls_of,
)
from batches.tests.support.tables import every_table
from batches.tests.support.threads import TIMEOUT, Gate, in_thread, wait_for_lock

pytestmark = pytest.mark.django_db(transaction=True)

#: All others are `/1`, `/2`, …: none of them contains it.
OURS = "https://example.org/0"


def forget(url=OURS):
    traces = BatchManager("ada", "api").forget_profile(Profile.objects.get(url=url).pk)
    assert traces, traces
    return traces


def counters(batch):
    batch.refresh_from_db()
    return batch.total_profiles, batch.completed_profiles, batch.successful_checks, batch.failed_checks


def naming(*texts):
    """The tables that still have one of these texts."""
    return {name for name, rows in every_table().items() for row in rows for text in texts if text in row}


def test_no_table_names_the_profile_afterwards(manager):
    """It was known by two other addresses, was merged with another profile, redirected, and edited in the admin."""
    first, second = "https://first.example/~ada", "https://second.example/~ada"
    people = ProfileList.objects.get(pk=manager.create_list("people", [first, *urls(3)]).pk)
    assert manager.correct_address(people.pk, first, second)
    assert manager.accept_redirect(propose_redirect(second, "https://ours.example/%C3%A9").pk)
    ours = Profile.objects.get(url="https://ours.example/%C3%A9")
    Profile.objects.filter(pk=ours.pk).update(name="Ada Example", feed_url=f"{ours.url}/feed", last_error="ada is away")
    run = start_run(manager.run_list(people.pk))
    found = Story("ada-1", "Ada is back", f"{ours.url}/1")
    record(run, [(ours.pk, CheckResult(ok=True, stories=[found])), (profile_ids(run.batch)[1], ok("other"))])
    propose_redirect(urls(1)[0], ours.url)
    root = User.objects.create_superuser("root")
    edited = ContentType.objects.get_for_model(ListProfile)
    LogEntry.objects.create(user=root, content_type=edited, object_id="1", object_repr="Ada Example", action_flag=2)
    answer = json.dumps({"old_url": second, "url": ours.url, "other": f"{ours.url}/other"})
    StoredResponse.objects.create(user=root, key="k", fingerprint="f", status_code=200, body=answer)
    assert naming("ada-1", ours.url) == {
        *("batches_profile", "batches_storyresult", "batches_batchlog", "batches_redirect", "batches_storedresponse"),
    }
    assert forget(ours.url) == Traces(1, 1, 1, 1)
    StoredResponse.objects.update(body=StoredResponse.objects.get().body.replace(f"{ours.url}/other", ""))
    assert naming(first, ours.url, "Ada ", "ada-1", "ada is away") == set()
    assert naming(second) == {"batches_storedresponse"}  # for a day
    assert urls_of(people) == urls(3)
    assert StoryResult.objects.get().story_id == "other"
    assert BatchLog.objects.filter(message="(forgotten)").count() == 2
    assert_sound()


def test_the_log_of_an_address_that_only_begins_like_its_own_is_kept(manager):
    people, longer = make_list("people", 2), f"{OURS}/longer"
    assert manager.correct_address(people.pk, urls(2)[1], longer)
    forget()
    assert people.logs.get(action="correct_address").message == f"{urls(2)[1]} → {longer}"


@pytest.mark.parametrize("is_late", [False, True])
def test_it_is_removed_from_all_messages_even_waiting_ones(is_late, manager, monkeypatch):
    """Also if a worker has read the stories before, and stores the message afterwards."""
    people = make_list("people", 3)
    subscribe(people, topics=["stories", "failing"])
    run = start_run(manager.run_list(people.pk))
    profiles = profile_ids(run.batch)
    stories = [CheckResult(ok=True, stories=[Story(f"s{pk}", f"Title {pk}", f"{OURS}/{pk}")]) for pk in profiles]
    Profile.objects.update(first_read_at=timezone.now())
    record(run, zip(profiles, stories, strict=True))
    assert manager.finish_run(run.batch.pk, run.run_token)
    if is_late:
        gate, settle_all = Gate(monkeypatch, message_data, "render_payload"), forgetting.settle_all
        preparing = gate.stop(message_data.prepare_messages)

        def store_and_settle():
            gate.open()
            preparing.result(TIMEOUT)
            settle_all()

        monkeypatch.setattr(forgetting, "settle_all", store_and_settle)
    else:
        message_data.prepare_messages()
        assert OURS in WebhookDelivery.objects.get().payload
    forget()
    reported = json.loads(WebhookDelivery.objects.get().payload)["data"]["stories"]["profiles"]
    assert [profile["profile"] for profile in reported] == profiles[1:]
    assert f"Title {profiles[0]}" not in WebhookDelivery.objects.get().payload


@pytest.mark.parametrize("status", Batch.Status.values)
@pytest.mark.parametrize(("row", "expected"), [(0, (2, 1, 0, 1)), (1, (2, 1, 1, 0)), (2, (2, 2, 1, 1))])
def test_the_counters_of_a_batch_go_down_with_the_row(status, row, expected):
    it = half_checked(status)
    before = Batch.objects.values_list("status", "position").order_by("pk")
    states = list(before)
    assert forget(urls(3)[row]).rows == 1
    assert counters(it) == expected
    assert it.stories_found == (0 if row == 0 else 1)
    assert list(before.all()) == states
    assert_sound()
    line = it.logs.latest("pk")
    state = (it.status, it.position)
    assert ((line.from_status, line.from_position), (line.to_status, line.to_position)) == (state, state)
    assert (line.action, line.actor, line.channel, line.message) == ("forget_profile", "ada", "api", LOGGED)
    last = BatchLog.objects.latest("pk")
    stories = "1 story" if row == 0 else "0 stories"
    assert last.message == f"{LOGGED} With it: 1 row in batches, {stories} and 0 memberships in lists."
    assert (last.batch, last.list) == (None, None)


def test_a_profile_that_was_skipped_is_no_longer_counted_as_such():
    it = half_checked("done")
    row = it.profiles.get(status="pending")
    it.profiles.filter(pk=row.pk).update(status="skipped")
    Batch.objects.filter(pk=it.pk).update(skipped_profiles=1, completed_profiles=3)
    forget(row.profile.url)
    assert (*counters(it), it.skipped_profiles) == (2, 2, 1, 1, 0)
    assert_sound()


def test_a_worker_that_records_a_result_for_it_changes_nothing_and_finishes_the_run(manager):
    run = start_run(make_batch("it", 3))
    ours, *others = profile_ids(run.batch)
    record(run, [(others[0], ok("a"))])
    forget()
    heartbeat = {"batches_lease": []}
    before = every_table() | heartbeat
    record(run, [(ours, ok("late", moved_to="https://new.example/"))])
    assert every_table() | heartbeat == before
    record(run, [(others[1], failed())])
    assert manager.finish_run(run.batch.pk, run.run_token)
    assert counters(run.batch) == (2, 2, 1, 1)
    assert (run.batch.status, run.batch.stories_found) == ("done", 1)
    assert_sound()


def test_lists_lose_it_and_say_so_without_its_address(manager):
    one, other = make_list("one", 3), ProfileList.objects.get(pk=manager.create_list("other", urls(5)[3:]).pk)
    assert forget().lists == 1
    assert (urls_of(one), urls_of(other)) == (urls(3)[1:], urls(5)[3:])
    one.refresh_from_db()
    other.refresh_from_db()
    assert (one.version, other.version) == (2, 1)
    assert one.logs.latest("pk").message == LOGGED


def test_stories_that_are_no_longer_counted_do_not_count_when_they_go(manager):
    """The batch was checked again since, and found others."""
    run = check_batch(make_batch("it", 2), ok("a", "b"), ok("c"))
    assert manager.finish_run(run.batch.pk, run.run_token)
    assert manager.queue_batch(run.batch.pk)
    run = check_batch(run.batch, ok("d"), ok("e", "f"))
    assert manager.finish_run(run.batch.pk, run.run_token)
    assert forget().stories == 3
    run.batch.refresh_from_db()
    assert run.batch.stories_found == 2
    assert {story.story_id for story in run.batch.new_stories} == {"e", "f"}


def test_the_stories_of_a_merged_profile_are_deleted_too(manager):
    """Its stories may be in batches where it has no row."""
    run = check_batch(make_batch("it", 1), ok("a", "b"))
    assert manager.finish_run(run.batch.pk, run.run_token)
    target = Profile.objects.create(url="https://target.example/")
    assert manager.accept_redirect(propose_redirect(OURS, target.url).pk)
    assert forget(target.url) == Traces(1, 0, 2, 0)
    run.batch.refresh_from_db()
    assert (run.batch.stories_found, run.batch.total_profiles) == (0, 1)
    assert naming(target.url) == set()
    assert_sound()


@pytest.mark.parametrize("again", ["queue_batch", "retry_failed"])
@pytest.mark.parametrize("ours", [0, 1, 2])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_batch_is_counted_correctly_while_its_rows_are_being_reset(manager, monkeypatch, again, ours, is_late):
    monkeypatch.setattr(resets, "RESET_CHUNK", 1)
    monkeypatch.setattr(resets, "SEARCH_CHUNK", 1)
    it = half_checked("done")
    monkeypatch.setattr(BatchManager, "finish_resets", lambda self: None)  # as if it had been killed

    def begin():
        assert getattr(manager, again)(it.pk)
        assert Batch.objects.to_reset().exists()

    if is_late:  # just after the call has finished all resets
        steps, finish = iter([begin]), forgetting.finish_resets
        monkeypatch.setattr(forgetting, "finish_resets", lambda: next(steps, finish)())
    else:
        begin()
    forget(urls(3)[ours])
    manager.finish_resets()
    statuses = row_statuses(it)
    done = len(statuses) - statuses.count("pending")
    assert counters(it) == (2, done, statuses.count("ok"), statuses.count("failed"))
    assert "failed" not in statuses
    assert_sound()


@pytest.mark.parametrize("is_purged", [False, True])
@pytest.mark.parametrize("is_reset", [False, True])
def test_rows_and_stories_of_deleted_batches_go_too(is_purged, is_reset, manager):
    it = half_checked("paused")
    reset = {"completed_profiles": 0, "successful_checks": 0, "failed_checks": 0, "reset_after": 0} if is_reset else {}
    Batch.objects.filter(pk=it.pk).update(deleted_at=Now(), **reset)
    if is_purged:
        manager.purge_deleted()
    forget()
    manager.purge_deleted()
    assert naming(OURS) == set()
    assert not StoryResult.objects.exists()
    assert_sound()


def test_a_batch_that_is_stored_at_the_same_time_loses_it_too(monkeypatch):
    make_batch("it", 2)
    settle_all, stored = forgetting.settle_all, []

    def store_first():
        if not stored:
            stored.append(make_batch("another", 2))
        settle_all()

    monkeypatch.setattr(forgetting, "settle_all", store_first)
    forget()
    assert counters(stored[0]) == (1, 0, 0, 0)
    assert_sound()


@pytest.mark.parametrize("value", [None, True, "", "x", "1" * 30, -1, 1.5, "١", 0, object()])
def test_a_value_that_is_not_the_id_of_a_profile_is_not_found(manager, value):
    make_batch("it", 1)
    with unchanged():
        refusal = manager.forget_profile(value)
    assert refusal.code == Code.NOT_FOUND
    assert refusal.message.startswith("No profile has the ID ")


def test_the_traces_count_the_deleted_rows(manager):
    make_list("people", 2)
    check_batch(make_batch("it", 2), ok("a", "b"))
    make_batch("next", 2)
    ours = Profile.objects.get(url=OURS)
    traces = count_traces(list(Profile.objects.filter(pk=ours.pk)))
    assert traces == forget() == Traces(1, 2, 2, 1)
    assert str(traces) == "2 rows in batches, 2 stories and 1 membership in lists"


def test_many_batches_go_in_bounded_transactions_with_a_constant_number_of_statements(manager, monkeypatch):
    monkeypatch.setattr(forgetting, "BATCHES_AT_ONCE", 10)
    costs = []
    for count in (10, 30):
        for _ in range(count):
            make_batch("it", 1)
        with CaptureQueriesContext(connection) as captured:
            forget()
        costs.append(captured)
        assert_sound()
    locks = [sum("batches_queue" in query["sql"] for query in queries) for queries in costs]
    assert locks[1] - locks[0] == 2 * locks[0]
    assert len(costs[1]) - len(costs[0]) < 2 * 15


# Others at the same time


def test_it_waits_for_a_recording_in_progress_and_counts_its_results(manager, monkeypatch):
    run = start_run(make_batch("it", 3))
    ours, other, _ = profile_ids(run.batch)
    gate = Gate(monkeypatch, results, "update_batch_profiles")
    recording = gate.stop(lambda: record(run, [(ours, ok("a", "b")), (other, ok("c"))]))
    forgetting_it = in_thread(forget)
    gate.open()
    recording.result(TIMEOUT)
    forgetting_it.result(TIMEOUT)
    assert counters(run.batch) == (2, 1, 1, 0)
    assert run.batch.stories_found == 1
    assert naming(OURS) == set()
    assert_sound()


def test_a_redirect_to_it_that_is_accepted_at_the_same_time_leaves_no_trace(monkeypatch):
    make_batch("it", 2)
    settle_all, accepted = forgetting.settle_all, []

    def accept_first():
        if not accepted:
            accepted.append(BatchManager().accept_redirect(propose_redirect("https://other.example/", OURS).pk))
        settle_all()

    monkeypatch.setattr(forgetting, "settle_all", accept_first)
    forget()
    assert all(accepted)
    assert naming(OURS) == set()


@pytest.mark.parametrize("is_digest", [False, True])
def test_a_message_that_is_prepared_at_the_same_time_does_not_have_it(is_digest, monkeypatch):
    people = make_list("people", 2)
    subscribe(people, digest_hour=(timezone.now().hour + 12) % 24 if is_digest else None)
    run_list(people, ok("ours"), ok("other"))
    if is_digest:
        message_data.prepare_messages()
        WebhookDelivery.objects.update(next_attempt_at=timezone.now())
    gate = Gate(monkeypatch, message_data, "render_payload")
    preparing = gate.stop(message_data.prepare_messages)
    if is_digest and connection.vendor == "sqlite":
        gate.open()  # its transaction locks everybody out
    forget()
    gate.open()
    preparing.result(TIMEOUT)
    payloads = list(WebhookDelivery.objects.order_by("pk").values_list("payload", flat=True))
    assert all('"other"' in payload and '"ours"' not in payload for payload in payloads)


#: The functions that are called after the profile was read, and before its row is committed.
STORING = {
    "a batch": (contents, "partition_of", lambda: BatchManager().create_batch("new", urls(2))),
    "a list": (lists, "pluralise", lambda: BatchManager().create_list("new", urls(2))),
    "a run that is due": (schedules, "partition_of", lambda: BatchManager().queue_due_lists()),
}


@pytest.mark.databases("postgresql")  # on SQLite one writes at a time
@pytest.mark.parametrize("what", STORING)
def test_storing_a_row_for_it_keeps_it_until_then(monkeypatch, what):
    make_batch("known", 2)
    if what == "a run that is due":
        people = make_list("people", 2)
        ProfileList.objects.filter(pk=people.pk).update(schedule="0 * * * *", next_run_at=timezone.now())
    owner, name, store = STORING[what]
    gate = Gate(monkeypatch, owner, name)
    storing = gate.stop(store)
    ours = Profile.objects.get(url=OURS)
    forgetting_it = in_thread(lambda: BatchManager().forget_profile(ours.pk))
    wait_for_lock(forgetting_it)
    gate.open()
    assert storing.result(TIMEOUT)
    answer = forgetting_it.result(TIMEOUT)
    assert answer or answer.code == Code.BEING_ADDED
    assert answer or BatchManager().forget_profile(ours.pk)
    assert naming(OURS) == set()
    assert_sound()


@pytest.mark.parametrize("make", [partial(make_batch, queue=False), make_list], ids=["batch", "list"])
def test_it_is_refused_and_changes_nothing_while_a_batch_or_a_list_with_it_is_being_stored(make, manager):
    make_batch("known", 2)
    new = make("new", 2)
    type(new).objects.filter(pk=new.pk).update(deleted_at=Now() + contents.PREPARATION)
    with unchanged():
        assert manager.forget_profile(Profile.objects.get(url=OURS).pk).code == Code.BEING_ADDED


def test_it_is_refused_when_others_store_it_again_and_again(manager, monkeypatch):
    make_batch("it", 1)
    monkeypatch.setattr(BatchManager, "_forget_in", lambda *arguments: None)
    assert manager.forget_profile(Profile.objects.get().pk).code == Code.BEING_ADDED
    assert_sound()

"""`manage.py batch run`: the whole job in one command, from the list to the summary, whatever happens in between."""

import asyncio
import io
import json
import os
import signal
from contextlib import contextmanager

import pytest
from django.db import OperationalError
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.checking.run import Run
from batches.conf import command_line
from batches.management import progress
from batches.management.batch import creating
from batches.management.progress import ProgressDisplay, describe
from batches.models import Batch, Profile, Queue, Webhook, WebhookDelivery
from batches.tests.support.factories import (
    assert_consistent,
    empty_leases,
    half_checked,
    make_batch,
    row_statuses,
    start_run,
    token_of,
    values_of,
)
from batches.tests.support.feedserver import Reply
from batches.tests.support.processes import WAIT_SECONDS, wait_until
from batches.tests.support.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)

Status = Batch.Status


@pytest.fixture(autouse=True)
def quick_updates(monkeypatch):
    monkeypatch.setattr(progress, "UPDATE_SECONDS", 0.01)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)


class Screen(io.StringIO):
    """Standard output that a test can watch while the command runs."""

    def __init__(self, terminal=False):
        super().__init__()
        self.isatty = lambda: terminal

    def shows(self, text):
        return text in self.getvalue()


# -- To the end --------------------------------------------------------------------------------------------------------


@pytest.fixture
def feeds(server, configure, list_file):
    """A list of a feed, a page without one, an address that is gone, and one that is not public."""
    configure(allowed_networks=("127.0.0.1/32",), retries=0)
    server.answer_feed("/feed", "Größe “zählt”", "Two")
    server.answer("/nonsense", "Hello")
    addresses = [*map(server.url, ("/feed", "/nonsense", "/gone")), "http://127.0.0.2/"]
    return list_file("\n".join(addresses))


def test_a_list_is_checked_and_summed_up(feeds, manage):
    output = manage("batch", "run", "--count-first", feeds)
    batch = Batch.objects.get()
    lines = output.out.splitlines()
    assert output.code == 0
    assert lines[:2] == [
        "4 profiles, 0 duplicates, 0 rejected lines",
        f"Created “morning”, queued at position 1: {batch.pk}",
    ]
    summary = lines.index("ok            1")
    assert lines[summary - 1].startswith(f"[{'#' * 30}] 100 %  4/4  failed 3  new stories 2")
    assert lines[summary + 1] == "failed        3"
    assert len({line.split(maxsplit=1)[1] for line in lines[summary + 2 : summary + 5]}) == 3
    name = str(batch.profiles.earliest("pk").profile)
    assert lines[summary + 5 :] == ["new stories 2", f"  Two  ({name})", f"  Größe “zählt”  ({name})"]
    assert "\x1b" not in output.out


def test_with_json_a_program_gets_nothing_else_on_standard_output(feeds, manage):
    output = manage("batch", "run", "--json", "--count-first", "--name", "Press", "--priority", "3", feeds)
    summary = json.loads(output.out)
    assert output.code == 0
    assert (summary["name"], summary["priority"], summary["status"]) == ("Press", 3, "done")
    assert (summary["successful_checks"], summary["failed_checks"]) == (1, 3)
    assert [failure["count"] for failure in summary["failures"]] == [1, 1, 1]
    assert {story["title"] for story in summary["stories"]} == {"Größe “zählt”", "Two"}
    assert "100 %  4/4" in output.err


def test_a_batch_that_ends_with_an_error_exits_1_and_says_why(configure, list_file, manage):
    output = manage("batch", "run", "--checker", "unready", list_file())
    assert output.code == 1
    assert output.err.endswith("The batch ended with an error: ConnectionError: The service does not know us.")


@pytest.mark.parametrize("answers", [False, True], ids=["nothing answers", "one answers"])
def test_if_every_profile_fails_to_connect_it_exits_1_and_asks_about_this_machine(
    answers, configure, server, list_file, manage
):
    configure(allowed_networks=("127.0.0.0/8",), retries=0)
    dead = [f"http://127.0.1.{number}:{server.port}/" for number in range(1, 4)]
    addresses = [*dead, "http://nothing.invalid/", *([server.url("/gone")] if answers else [])]
    output = manage("batch", "run", "--checker", "http", list_file("\n".join(addresses)))
    assert Batch.objects.get().failed_checks == len(addresses)
    assert output.code == (0 if answers else 1)
    assert output.err.endswith("" if answers else "Every profile failed to connect: is this machine online?")
    assert "failed        " in output.out


def test_ctrl_c_while_the_list_is_read_creates_nothing(list_file, manage, monkeypatch):
    monkeypatch.setattr(creating, "read_profiles", interrupt)
    assert manage("batch", "run", list_file()) == (130, "", "Stopped.")
    assert not Batch.objects.exists()


def interrupt(*args, **options):
    raise KeyboardInterrupt


# -- With others -------------------------------------------------------------------------------------------------------


def test_batches_ahead_are_checked_first_and_the_screen_says_so(script, list_file, manage):
    screen = Screen()
    make_batch("ahead", 3, checker="scripted")
    make_batch("urgent", 1, checker="scripted", priority=1)

    async def wait_for_the_screen(profile):
        if len(checked) == 1:
            await asyncio.to_thread(wait_until, lambda: screen.shows("2 batches ahead, first “urgent” 0/1\n"))
        if len(checked) == 2:
            await asyncio.to_thread(wait_until, lambda: screen.shows("1 batch ahead, first “ahead” "))

    checked = script(wait_for_the_screen)
    assert manage("batch", "run", "--checker", "scripted", list_file(), stdout=screen).code == 0
    assert [url.split("/")[2] for url in checked] == [*["example.org"] * 4, "0.example", "1.example", "2.example"]


def test_the_webhooks_are_left_to_the_worker(script, list_file, manage):
    """This shell may lack the settings with which the service reaches them."""
    webhook = Webhook.objects.create(name="hook", url="http://127.0.0.1:1/")
    script()
    assert manage("batch", "run", "--checker", "scripted", list_file()).code == 0
    delivery = WebhookDelivery.objects.get(webhook=webhook)
    assert (delivery.state, delivery.attempts, delivery.error) == ("waiting", 0, "")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            [BatchManager.pause_batch],
            f"The batch is paused: someone else changed it. See: {command_line('batch logs')} {{pk}}",
        ),
        ([BatchManager.pause_batch, BatchManager.delete_batch], "The batch has been deleted."),
    ],
    ids=["paused", "deleted"],
)
def test_it_exits_1_with_a_sentence_if_somebody_else_pauses_or_deletes_the_batch(
    changes, sentence, script, list_file, manage
):
    def change():
        pk = Batch.objects.get().pk
        for call in changes:
            assert call(BatchManager(), pk)
        return pk

    changed = []

    async def be_changed(profile):
        if not changed:
            changed.append(in_thread(change))
        await asyncio.shield(asyncio.wrap_future(changed[0]))

    script(be_changed)
    output = manage("batch", "run", "--checker", "scripted", list_file())
    assert output.code == 1
    assert output.err.endswith(sentence.format(pk=changed[0].result(WAIT_SECONDS)))


# -- Stopped and resumed -----------------------------------------------------------------------------------------------


@pytest.fixture
def stop_at(script, configure, monkeypatch):
    """Lets a signal stop the run at the n-th check of several, one at a time; returns the addresses checked."""
    stopped = asyncio.Event()
    stop = Run.stop

    def stop_and_report(run):
        stop(run)
        stopped.set()

    def set_up(check, number=signal.SIGINT):
        async def be_stopped(profile):
            if len(checked) == check:
                os.kill(os.getpid(), number)
                await stopped.wait()

        checked = script(be_stopped)
        return checked

    configure(concurrency=1)
    monkeypatch.setattr(Run, "stop", stop_and_report)
    return set_up


@contextmanager
def handling_sighup(handler):
    """The tests themselves may run under nohup, which ignores it."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_pauses_the_batch_and_resume_finishes_it_with_each_result_once(
    number, code, stop_at, list_file, manage
):
    checked = stop_at(2, number)
    with handling_sighup(signal.SIG_DFL):
        output = manage("batch", "run", "--checker", "scripted", list_file())
    batch = Batch.objects.get()
    assert output.code == code
    resume = command_line(f"batch run --resume {batch.pk}")
    assert output.err.endswith(f"Stopped. The batch is paused and its results are saved. Continue with: {resume}")
    assert batch.status == Status.PAUSED
    assert row_statuses(batch) == ["ok", "ok", "pending"]
    assert manage("batch", "run", "--resume", batch.pk).code == 0
    assert row_statuses(batch) == ["ok"] * 3
    assert sorted(checked) == [f"https://{number}.example/" for number in range(3)]
    assert_consistent()


def test_under_nohup_the_batch_is_finished_although_the_terminal_was_closed(script, list_file, manage):
    async def close_terminal(profile):
        os.kill(os.getpid(), signal.SIGHUP)

    checked = script(close_terminal)
    with handling_sighup(signal.SIG_IGN):
        assert manage("batch", "run", "--checker", "scripted", list_file()).code == 0
    assert len(checked) == 3


def test_ctrl_c_during_a_batch_ahead_pauses_ours_and_releases_the_other(stop_at, list_file, manage):
    ahead = make_batch("ahead", 5, checker="scripted")
    stop_at(1)
    assert manage("batch", "run", "--checker", "scripted", list_file()).code == 130
    assert Batch.objects.get(name="morning").status == Status.PAUSED
    left = values_of(ahead.pk)
    assert (left["status"], ahead.leases.exists(), left["completed_profiles"]) == (Status.RUNNING, False, 1)


def test_ctrl_c_before_the_worker_handles_signals_pauses_the_batch_too(configure, list_file, manage, monkeypatch):
    monkeypatch.setattr(ProgressDisplay, "__enter__", interrupt)
    assert manage("batch", "run", "--checker", "effortless", list_file()).code == 130
    assert Batch.objects.get().status == Status.PAUSED


def test_a_batch_is_done_if_its_last_check_ends_after_ctrl_c(stop_at, list_file, manage):
    stop_at(3)
    output = manage("batch", "run", "--checker", "scripted", list_file())
    assert output.code == 0
    assert "ok            3\n" in output.out
    assert Batch.objects.get().status == Status.DONE


@pytest.mark.parametrize(
    ("status", "order"),
    [
        (Status.PAUSED, ["first", "last", "it"]),
        (Status.ERROR, ["first", "last", "it"]),
        (Status.RUNNING, ["it"]),
        (Status.QUEUED, ["first", "it"]),  # at its position
    ],
)
def test_a_batch_is_resumed_where_it_stopped(status, order, configure, manage):
    batch = half_checked(status)
    Batch.objects.update(checker="effortless")
    if status == Status.RUNNING:
        assert BatchManager().release_run(batch.pk, token_of(batch))
    assert manage("batch", "run", "--resume", str(batch.pk)[:13]).code == 0
    assert row_statuses(batch) == ["ok", "failed", "ok"]
    done = Batch.objects.filter(status=Status.DONE).order_by("completed_at")
    assert list(done.values_list("name", flat=True)) == order


WITHOUT_A_LIST = "--resume takes no list, no --dry-run and no --keep: the batch already has its profiles."


@pytest.mark.parametrize(
    ("status", "options", "sentence"),
    [
        (Status.DONE, [], f"“it” is done. Check it again: {command_line('batch queue {pk}')}"),
        (Status.PAUSED, ["list.txt"], WITHOUT_A_LIST),
        (Status.PAUSED, ["--dry-run"], WITHOUT_A_LIST),
    ],
)
def test_an_impossible_resume_is_refused(status, options, sentence, refuse):
    batch = half_checked(status)
    assert refuse("batch", "run", "--resume", batch.pk, *options) == sentence.format(pk=batch.pk)


# -- What the screen says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "total", "completed", "seconds", "filled", "text"),
    [
        (Status.RUNNING, 100, 50, 20.0, 15, " 50 %  50/100  failed 1  new stories 1  2/s  20 s left"),
        (Status.RUNNING, 4, 2, 3700.0, 15, " 50 %  2/4  failed 1  new stories 1  0/s  1 h 01 min left"),
        (Status.RUNNING, 1000, 999, 300.0, 29, " 99 %  999/1,000  failed 1  new stories 1  3/s  0 s left"),
        (Status.PAUSED, 3, 2, 20.0, 19, " 66 %  2/3  failed 1  new stories 1  0/s"),
        (Status.DONE, 2, 2, 0.0, 30, "100 %  2/2  failed 1  new stories 1"),
    ],
)
def test_a_bar_shows_the_progress_and_the_estimate_of_a_batch_that_runs(
    status, total, completed, seconds, filled, text
):
    batch = half_checked(status)
    values = {"total_profiles": total, "completed_profiles": completed, "run_seconds": seconds}
    empty_leases(batch)
    Batch.objects.filter(pk=batch.pk).update(**values)
    batch.refresh_from_db()
    assert describe(batch) == f"[{'#' * filled:-<30}] {text}"


def test_a_batch_without_profiles_has_an_empty_bar():
    batch = start_run(make_batch("empty")).batch
    assert describe(batch) == f"[{'-' * 30}]   0 %  0/0  failed 0  new stories 0"


def test_a_queued_batch_says_what_it_is_waiting_for():
    batch = make_batch("it")
    assert describe(batch) == "Waiting to start."
    start_run(make_batch("first\x1b[31m", 1234))
    assert describe(batch) == "1 batch ahead, first “first [31m” 0/1,234"
    assert describe(make_batch("last")) == "2 batches ahead, first “first [31m” 0/1,234"
    assert BatchManager().hold_queue()
    since = f"{timezone.localtime(Queue.objects.get().held_at):%Y-%m-%d %H:%M:%S} UTC"
    assert describe(batch) == f"Queue held by someone since {since}. This batch is at position 1."


def test_a_terminal_shows_one_changing_line_that_fits(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    batch = half_checked(Status.PAUSED)
    terminal = Screen(terminal=True)
    with ProgressDisplay(batch.pk, terminal):
        wait_until(lambda: terminal.shows("\r\x1b[K"))
    line = describe(batch)[:29]
    assert set(terminal.getvalue().split("\r\x1b[K")) == {"", line, f"{line}\n"}
    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().endswith("\n")


@pytest.fixture
def updates(monkeypatch):
    """The line of each update of the display."""
    lines = []

    def describe_and_note(batch):
        lines.append(describe(batch))
        return lines[-1]

    monkeypatch.setattr(progress, "describe", describe_and_note)
    return lines


def test_a_file_gets_a_line_for_each_change_but_few_and_at_last_where_the_batch_ended(updates, monkeypatch):
    batch = half_checked(Status.RUNNING)
    file = Screen()
    with ProgressDisplay(batch.pk, file):
        wait_until(lambda: len(updates) > 3)
        empty_leases(batch)
        Batch.objects.update(run_seconds=1.0)
        wait_until(lambda: file.shows("2/s"))
        monkeypatch.setattr(progress, "LINE_SECONDS", 3600.0)  # from the next line on
        Batch.objects.update(stories_found=5)
        wait_until(lambda: file.shows("new stories 5"))
        Batch.objects.update(stories_found=7)
        wait_until(lambda: "new stories 7" in updates[-1])
        assert not file.shows("new stories 7")
    assert file.getvalue().splitlines() == list(dict.fromkeys(updates))


def test_the_display_survives_a_database_that_does_not_answer_for_a_while(monkeypatch):
    batch = half_checked(Status.RUNNING)
    faults = iter([OperationalError("away")] * 3)

    def be_away_at_first(*_):
        for fault in faults:
            raise fault
        return describe(batch)

    monkeypatch.setattr(progress, "describe", be_away_at_first)
    file = Screen()
    with ProgressDisplay(batch.pk, file):
        wait_until(lambda: file.shows("2/3"))


# -- As real processes -------------------------------------------------------------------------------------------------


PATHS = [f"/{number}" for number in range(8)]


def held_list(server, list_file):
    """A list of eight addresses, of which the server holds the answers of all but the first four; and the gates."""
    server.otherwise = Reply()
    return list_file("\n".join(map(server.url, PATHS))), [server.hold(path) for path in PATHS[4:]]


def hits(server):
    return list(map(server.hits, PATHS))


#: Four are checked, and two are under way: as many as one host gets at once.
HALF_WAY = [1] * 6 + [0] * 2


@pytest.mark.slow
@pytest.mark.databases("sqlite")
def test_it_only_shows_the_progress_while_another_worker_checks_the_batch(server, list_file, commands, manage):
    path, gates = held_list(server, list_file)
    assert manage("batch", "create", "--checker", "http", path).code == 0
    worker = commands.start_worker()
    batch = Batch.objects.get()
    worker.wait_for(lambda: hits(server) == HALF_WAY and values_of(batch.pk)["completed_profiles"] == 4)
    follower = commands.start("batch", "run", "--resume", str(batch.pk))
    follower.wait_for(lambda: " 50 %  4/8" in follower.out)
    for gate in gates:
        gate.open()
    assert follower.wait() == 0
    assert "ok            8\n" in follower.out
    assert hits(server) == [1] * 8
    actions = list(batch.logs.order_by("pk").values_list("action", flat=True))
    assert actions == ["create_batch", "promote_next_batch", "finish_run"]


@pytest.mark.slow
@pytest.mark.databases("sqlite")
def test_it_runs_from_cron_without_a_user_a_terminal_or_letters_beyond_ascii(server, list_file, commands):
    server.answer_feed("/feed", "Größe “zählt”", "Two")
    needed = {"DATABASE_URL", "SECRET_KEY"}
    commands.environ = {
        name: value for name, value in commands.environ.items() if name in needed or name.startswith("BATCHES_")
    } | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
    run = commands.run("batch", "run", "--count-first", "--name", "Morgen", str(list_file(server.url("/feed"))))
    batch = Batch.objects.get()
    assert f"Created ?Morgen?, queued at position 1: {batch.pk}" in run.out
    assert "  Gr??e ?z?hlt?  (" in run.out
    assert run.err == ""
    Batch.objects.update(name="Größe")
    Profile.objects.update(name="Zürich")
    shown = commands.start("batch", "list", "--json")
    exported = commands.start("batch", "export", "--format", "jsonl", str(batch.pk))
    assert (shown.wait(), exported.wait()) == (0, 0)
    assert json.loads(shown.out)[0]["name"] == "Größe"
    assert json.loads(exported.out)["name"] == "Zürich"


@pytest.mark.slow
@pytest.mark.databases("sqlite")
def test_a_reader_that_leaves_early_causes_no_traceback_and_does_not_stop_the_work(server, list_file, commands):
    path, gates = held_list(server, list_file)
    reading, writing = os.pipe()
    run = commands.start("batch", "run", "--checker", "http", str(path), stdout=writing)
    run.wait_for(lambda: hits(server) == HALF_WAY)
    os.close(reading)
    os.close(writing)
    for gate in gates:
        gate.open()
    assert (run.wait(), run.err) == (0, "")
    assert row_statuses(Batch.objects.get()) == ["ok"] * 8

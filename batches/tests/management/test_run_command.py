"""`manage.py batch run`: the job in one line, from the list to the summary, whatever comes between."""

import asyncio
import io
import json
import os
import signal
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.checking.run import Run
from batches.management import progress
from batches.management.batch import running
from batches.management.progress import ProgressDisplay, describe
from batches.models import Batch, Queue
from batches.tests.support.factories import (
    assert_consistent,
    half_checked,
    make_batch,
    make_waiting,
    row_statuses,
    start_run,
    values_of,
    waiting_names,
)
from batches.tests.support.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)

Status = Batch.Status
FEED = """<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>
<item><title>Größe “zählt”</title><guid isPermaLink="false">1</guid></item>
<item><title>Two</title><guid isPermaLink="false">2</guid></item></channel></rss>"""


@pytest.fixture
def list_file(tmp_path):
    """A list of these addresses, by default of three."""

    def write(*addresses):
        path = tmp_path / "morning.txt"
        path.write_text("\n".join(addresses or [f"https://{number}.example/" for number in range(3)]))
        return path

    return write


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch):
    monkeypatch.setattr(progress, "UPDATE_SECONDS", 0.01)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)


class Screen(io.StringIO):
    """Standard output that a test can watch while the command runs. A terminal, if it is said to be one."""

    def __init__(self, terminal=False):
        super().__init__()
        self._terminal = terminal

    def isatty(self):
        return self._terminal

    def shows(self, text):
        return text in self.getvalue()


def only_batch():
    return Batch.objects.get()


# -- To the end --------------------------------------------------------------------------------------------------------


@pytest.fixture
def feeds(server, configure, list_file):
    """A list of a feed, a page without one, an address that is gone, and one that is not public."""
    configure(allowed_networks=("127.0.0.1/32",), retries=0)
    server.answer("/feed", FEED)
    server.answer("/nonsense", "Hello")
    return list_file(server.url("/feed"), server.url("/nonsense"), server.url("/gone"), "http://127.0.0.2/")


def test_a_list_is_worked_off_and_summed_up(feeds, manage):
    answer = manage("batch", "run", feeds)
    batch = only_batch()
    lines = answer.out.splitlines()
    assert answer.code == 0
    assert lines[:2] == [
        "4 profiles, 0 duplicates, 0 rejected lines",
        f"Created “morning”, queued at position 1: {batch.pk}",
    ]
    summary = lines.index("ok            1")
    assert lines[summary - 1].startswith(f"[{'#' * 30}] 100 %  4/4  failed 3  new stories 2")
    assert lines[summary + 1] == "failed        3"
    reasons = {line.split(maxsplit=1)[1] for line in lines[summary + 2 : summary + 5]}
    assert reasons > {"answered 404 Not Found", "the address 127.0.0.2 is not public"}
    name = str(batch.profiles.earliest("pk").profile)
    assert lines[summary + 5 :] == ["new stories 2", f"  Two  ({name})", f"  Größe “zählt”  ({name})"]
    assert "\x1b" not in answer.out


def test_a_program_gets_json_and_nothing_else_on_standard_output(feeds, manage):
    answer = manage("batch", "run", "--json", feeds)
    summary = json.loads(answer.out)
    assert answer.code == 0
    assert (summary["status"], summary["successful_checks"], summary["failed_checks"]) == ("done", 1, 3)
    assert sorted(failure["count"] for failure in summary["failures"]) == [1, 1, 1]
    assert {story["title"] for story in summary["stories"]} == {"Größe “zählt”", "Two"}
    assert "100 %  4/4" in answer.err


def test_the_options_of_a_new_batch_hold_here_too(script, list_file, manage):
    script()
    options = ["--name", "Press", "--priority", "3", "--checker", "scripted"]
    assert manage("batch", "run", *options, list_file()).code == 0
    batch = only_batch()
    assert (batch.name, batch.priority, batch.checker, batch.status) == ("Press", 3, "scripted", Status.DONE)


def test_a_batch_that_ends_in_error_exits_1_and_says_why(configure, list_file, manage):
    answer = manage("batch", "run", "--checker", "unready", list_file())
    assert answer.code == 1
    assert answer.err.endswith("The batch ended with an error: ConnectionError: The service does not know us.")
    assert only_batch().status == Status.ERROR


def test_ctrl_c_while_the_list_is_read_makes_nothing(list_file, manage, monkeypatch):
    def be_interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "read_profiles", be_interrupted)
    assert manage("batch", "run", list_file()) == (130, "", "Stopped.")
    assert not Batch.objects.exists()


def test_a_list_that_cannot_be_read_is_not_run(list_file, manage):
    answer = manage("batch", "run", list_file("nonsense"))
    assert (answer.code, answer.out) == (1, "")
    assert not Batch.objects.exists()


# -- With others -------------------------------------------------------------------------------------------------------


def test_others_that_wait_ahead_run_first_and_the_screen_says_so(script, list_file, manage):
    screen = Screen()
    make_batch("ahead", 3, checker="scripted")
    make_batch("urgent", 1, checker="scripted", priority=1)

    async def wait_for_the_screen(profile):
        if len(checked) == 1:
            await until(lambda: screen.shows("2 batches ahead, first “urgent” 0/1\n"))
        if len(checked) == 2:
            await until(lambda: screen.shows("1 batch ahead, first “ahead” "))

    checked = script(wait_for_the_screen)
    assert manage("batch", "run", "--checker", "scripted", list_file(), stdout=screen).code == 0
    assert [url.split("/")[2] for url in checked] == [*["example.org"] * 4, "0.example", "1.example", "2.example"]


async def until(condition):
    """As the screen changes, which nobody tells us of; a check that waits too long fails."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def test_a_held_queue_is_said_and_waited_for(script, list_file, manage):
    screen = Screen()
    script()
    BatchManager("Ada").hold_queue("New disk")

    def release_when_shown():
        asyncio.run(until(lambda: screen.shows(": New disk. This batch is at position 1.\n")))
        return BatchManager().release_queue()

    released = in_thread(release_when_shown)
    assert manage("batch", "run", "--checker", "scripted", list_file(), stdout=screen).code == 0
    assert released.result(10)
    assert screen.shows("Queue held by Ada since 20")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([BatchManager.pause_batch], "The batch is paused: someone else changed it. See: manage.py batch logs {pk}"),
        ([BatchManager.pause_batch, BatchManager.delete_batch], "The batch has been deleted."),
    ],
    ids=["paused", "deleted"],
)
def test_a_batch_that_somebody_else_takes_away_exits_1_with_a_sentence(changes, sentence, script, list_file, manage):
    def change():
        pk = only_batch().pk
        for call in changes:
            assert call(BatchManager(), pk)
        return pk

    changed = []

    async def be_changed(profile):
        if not changed:
            changed.append(in_thread(change))
        await asyncio.shield(asyncio.wrap_future(changed[0]))

    script(be_changed)
    answer = manage("batch", "run", "--checker", "scripted", list_file())
    assert answer.code == 1
    assert answer.err.endswith(sentence.format(pk=changed[0].result(10)))


# -- Stopped and resumed -----------------------------------------------------------------------------------------------


@pytest.fixture
def told_to_stop(monkeypatch):
    """Set when the signal has arrived at the run."""
    event = asyncio.Event()
    stop = Run.stop

    def stop_and_tell(run):
        stop(run)
        event.set()

    monkeypatch.setattr(Run, "stop", stop_and_tell)
    return event


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_pauses_the_batch_and_resume_finishes_it_with_each_result_once(
    number, code, script, configure, list_file, manage, told_to_stop
):
    configure(concurrency=1)

    async def be_stopped_at_the_second(profile):
        if len(checked) == 2:
            os.kill(os.getpid(), number)
            await told_to_stop.wait()

    checked = script(be_stopped_at_the_second)
    answer = manage("batch", "run", "--checker", "scripted", list_file())
    batch = only_batch()
    assert answer.code == code
    assert answer.err.endswith(
        "Stopped. The batch is paused and its results are saved. "
        f"Continue with: manage.py batch run --resume {batch.pk}"
    )
    assert batch.status == Status.PAUSED
    assert row_statuses(batch) == ["ok", "ok", "pending"]
    assert manage("batch", "run", "--resume", batch.pk).code == 0
    assert row_statuses(batch) == ["ok"] * 3
    assert sorted(checked) == [f"https://{number}.example/" for number in range(3)]
    assert_consistent()


def test_ctrl_c_during_a_batch_ahead_pauses_ours_and_gives_the_other_one_back(script, list_file, manage, told_to_stop):
    ahead = make_batch("ahead", 5, checker="scripted")

    async def be_stopped(profile):
        if len(checked) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        await told_to_stop.wait()

    checked = script(be_stopped)
    assert manage("batch", "run", "--checker", "scripted", list_file()).code == 130
    assert Batch.objects.get(name="morning").status == Status.PAUSED
    left = values_of(ahead.pk)
    assert (left["status"], left["run_token"], left["completed_profiles"]) == (Status.RUNNING, None, 2)


def test_ctrl_c_before_the_worker_listens_pauses_the_batch_too(configure, list_file, manage, monkeypatch):
    def be_interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(ProgressDisplay, "__enter__", be_interrupted)
    answer = manage("batch", "run", "--checker", "effortless", list_file())
    assert answer.code == 130
    assert only_batch().status == Status.PAUSED


def test_a_batch_whose_last_check_ends_after_ctrl_c_is_done(script, configure, list_file, manage, told_to_stop):
    configure(concurrency=1)

    async def be_stopped_at_the_last(profile):
        if len(checked) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            await told_to_stop.wait()

    checked = script(be_stopped_at_the_last)
    answer = manage("batch", "run", "--checker", "scripted", list_file())
    assert answer.code == 0
    assert "ok            3\n" in answer.out
    assert only_batch().status == Status.DONE


@pytest.mark.parametrize("status", [Status.PAUSED, Status.ERROR, Status.RUNNING])
def test_a_batch_is_resumed_where_it_stopped(status, configure, manage):
    batch = half_checked(status)
    Batch.objects.update(checker="effortless")
    if status == Status.RUNNING:
        run_token = values_of(batch.pk)["run_token"]
        assert BatchManager().release_run(batch.pk, run_token)
    assert manage("batch", "run", "--resume", str(batch.pk)[:13]).code == 0
    assert row_statuses(batch) == ["ok", "failed", "ok"]


def test_a_waiting_batch_that_is_resumed_keeps_its_place(configure, manage, monkeypatch):
    first, _ = make_waiting(2)
    monkeypatch.setattr(running.RunActions, "conclude", lambda *_: None)
    monkeypatch.setattr(running, "work_until_finished", lambda *_: None)
    assert manage("batch", "run", "--resume", first.pk).code == 0
    assert waiting_names() == ["1", "2"]


def test_a_done_batch_is_not_checked_anew_by_mistake(manage):
    batch = half_checked(Status.DONE)
    answer = manage("batch", "run", "--resume", batch.pk)
    assert (answer.code, answer.err) == (1, f"“it” is done. Check it again: manage.py batch queue {batch.pk}")
    assert row_statuses(batch) == ["ok", "failed", "pending"]


@pytest.mark.parametrize("options", [["list.txt"], ["-"], ["--dry-run"]])
def test_either_a_list_is_run_or_a_batch_is_resumed(options, manage):
    batch = half_checked(Status.PAUSED)
    answer = manage("batch", "run", "--resume", batch.pk, *options)
    assert answer.code == 1
    assert answer.err == "Use --resume without a list and without --dry-run: the batch has its profiles already."
    assert values_of(batch.pk)["status"] == Status.PAUSED


# -- What the screen says ----------------------------------------------------------------------------------------------


def in_status(status, **values):
    batch = half_checked(status)
    Batch.objects.filter(pk=batch.pk).update(**values)
    batch.refresh_from_db()
    return batch


def test_a_running_batch_is_a_bar_with_rate_and_estimate():
    batch = in_status(Status.RUNNING, total_profiles=100, completed_profiles=50, run_seconds=20.0)
    bar = "#" * 15 + "-" * 15
    assert describe(batch) == f"[{bar}]  50 %  50/100  failed 1  new stories 1  2/s  20 s left"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min 00 s"), (3700, "1 h 01 min"), (360000, "100 h 00 min")],
)
def test_an_estimate_is_as_exact_as_it_deserves(seconds, text):
    batch = in_status(Status.RUNNING, total_profiles=4, completed_profiles=2, run_seconds=seconds)
    assert describe(batch).endswith(f"{text} left")


def test_nothing_is_estimated_of_a_batch_that_stands_still_or_has_not_begun():
    batch = in_status(Status.PAUSED, run_seconds=20.0)
    assert describe(batch).endswith("new stories 1  0/s")
    batch = start_run(make_batch("empty")).batch
    assert describe(batch) == f"[{'-' * 30}]   0 %  0/0  failed 0  new stories 0"


def test_the_bar_is_not_full_before_the_end():
    batch = in_status(Status.RUNNING, total_profiles=1000, completed_profiles=999)
    assert f"[{'#' * 29}-]  99 %" in describe(batch)


def test_a_waiting_batch_says_what_it_waits_for():
    batch = make_batch("it")
    assert describe(batch) == "Waiting to start."
    start_run(make_batch("first\x1b[31m", 1234))
    assert describe(batch) == "1 batch ahead, first “first [31m” 0/1,234"
    queue = BatchManager().hold_queue() and Queue.objects.get()
    since = f"{timezone.localtime(queue.held_at):%Y-%m-%d %H:%M:%S}"
    assert describe(batch) == f"Queue held by someone since {since}. This batch is at position 1."


def test_a_waiting_batch_names_the_first_of_those_ahead():
    make_waiting(5)
    assert describe(make_batch("it")) == "5 batches ahead, first “1” 0/0"


def test_a_terminal_shows_one_line_that_moves_and_is_no_longer_than_it(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    batch = half_checked(Status.PAUSED)
    terminal = Screen(terminal=True)
    with ProgressDisplay(batch.pk, terminal):
        asyncio.run(until(lambda: terminal.shows("\r\x1b[K")))
    shown = terminal.getvalue()
    line = describe(batch)[:29]
    assert set(shown.split("\r\x1b[K")) == {"", line, f"{line}\n"}
    assert shown.count("\n") == 1
    assert shown.endswith("\n")


@pytest.fixture
def looks(monkeypatch):
    """What the display saw, look for look."""
    seen = []

    def look(batch):
        seen.append(describe(batch))
        return seen[-1]

    monkeypatch.setattr(progress, "describe", look)
    return seen


def test_a_file_gets_a_line_for_each_change(looks):
    batch = half_checked(Status.RUNNING)
    file = Screen()
    with ProgressDisplay(batch.pk, file):
        asyncio.run(until(lambda: len(looks) > 3))
        assert BatchManager().pause_batch(batch.pk)
        Batch.objects.update(run_seconds=1.0)
        asyncio.run(until(lambda: file.shows("2/s")))
    assert file.getvalue().splitlines() == list(dict.fromkeys(looks))


def test_a_file_gets_no_more_lines_of_a_batch_that_is_gone(looks):
    batch = half_checked(Status.PAUSED)
    file = Screen()
    with ProgressDisplay(batch.pk, file):
        asyncio.run(until(lambda: file.shows("2/3")))
        assert BatchManager().delete_batch(batch.pk)
    assert file.getvalue().splitlines() == [looks[0]]


def test_a_file_gets_few_lines_and_the_last_one_is_where_the_batch_ended(looks, monkeypatch):
    batch = half_checked(Status.RUNNING)
    file = Screen()
    monkeypatch.setattr(progress, "LINE_SECONDS", timedelta(hours=1).total_seconds())
    with ProgressDisplay(batch.pk, file):
        asyncio.run(until(lambda: looks))
        Batch.objects.update(run_seconds=1.0)
        asyncio.run(until(lambda: "2/s" in looks[-1]))
    assert file.getvalue().splitlines() == [looks[0], looks[-1]]


def test_a_database_that_is_away_for_a_while_does_not_end_the_display(monkeypatch):
    batch = half_checked(Status.RUNNING)
    faults = iter([OperationalError("away")] * 3)

    def be_away_at_first(*_):
        for fault in faults:
            raise fault
        return describe(batch)

    monkeypatch.setattr(progress, "describe", be_away_at_first)
    file = Screen()
    with ProgressDisplay(batch.pk, file):
        asyncio.run(until(lambda: file.shows("2/3")))


# -- As real processes -------------------------------------------------------------------------------------------------


def paths(count):
    return [f"/{number}" for number in range(count)]


def held_list(server, list_file):
    """A list of eight addresses, of which the server holds the answers of all but the first four; and the gates."""
    for path in paths(8):
        server.answer(path)
    return list_file(*map(server.url, paths(8))), [server.hold(path) for path in paths(8)[4:]]


def hits(server):
    return [server.hits(path) for path in paths(8)]


#: Four are checked, and two are under way: as many as one host gets at once.
HALF_WAY = [1] * 6 + [0] * 2


def test_ctrl_c_at_a_terminal_pauses_and_resume_goes_on(server, list_file, commands):
    path, gates = held_list(server, list_file)
    first = commands.start_at_terminal("batch", "run", "--checker", "http", str(path))
    first.wait_for(lambda: hits(server) == HALF_WAY and "4/8" in first.out)
    first.signal(signal.SIGINT)
    first.wait_for(lambda: "Stopping after the running checks. [####" in first.out)
    for gate in gates[:2]:
        gate.open()
    assert first.ended() == 130
    batch = only_batch()
    resume = f"manage.py batch run --resume {batch.pk}"
    assert f"CommandError: Stopped. The batch is paused and its results are saved. Continue with: {resume}" in first.out
    assert "\r\x1b[K[###############---------------]  50 %  4/8" in first.out
    assert "]  75 %  6/8" in first.out
    assert "Traceback" not in first.out
    for gate in gates:
        gate.open()
    second = commands.start(*resume.split()[1:])
    assert second.ended() == 0
    assert "ok            8\nfailed        0\n" in second.out
    assert row_statuses(batch) == ["ok"] * 8
    assert hits(server) == [1] * 8
    assert_consistent()


@pytest.mark.databases("sqlite")
def test_while_a_worker_is_at_work_elsewhere_it_only_follows(server, list_file, commands, manage):
    path, gates = held_list(server, list_file)
    assert manage("batch", "create", "--checker", "http", path).code == 0
    worker = commands.start_worker()
    batch = only_batch()
    worker.wait_for(lambda: hits(server) == HALF_WAY and values_of(batch.pk)["completed_profiles"] == 4)
    follower = commands.start("batch", "run", "--resume", str(batch.pk))
    follower.wait_for(lambda: " 50 %  4/8" in follower.out)
    for gate in gates:
        gate.open()
    assert follower.ended() == 0
    assert "ok            8\n" in follower.out
    assert hits(server) == [1] * 8
    actions = list(batch.logs.order_by("pk").values_list("action", flat=True))
    assert actions == ["create_batch", "promote_next_batch", "finish_run"]


@pytest.mark.databases("sqlite")
def test_it_runs_from_cron_without_a_user_a_terminal_or_letters_beyond_ascii(server, list_file, commands):
    server.answer("/feed", FEED)
    needed = {"DATABASE_URL", "SECRET_KEY"}
    commands.environ = {
        name: value for name, value in commands.environ.items() if name in needed or name.startswith("BATCHES_")
    } | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
    run = commands.start("batch", "run", "--name", "Morgen", str(list_file(server.url("/feed"))))
    assert run.ended() == 0, run.said
    batch = only_batch()
    assert f"Created ?Morgen?, queued at position 1: {batch.pk}" in run.out
    assert "  Gr??e ?z?hlt?  (" in run.out
    assert run.err == ""
    Batch.objects.update(name="Größe")
    batch.profiles.get().profile.__class__.objects.update(name="Zürich")
    shown = commands.start("batch", "list", "--json")
    exported = commands.start("batch", "export", "--format", "jsonl", str(batch.pk))
    assert (shown.ended(), exported.ended()) == (0, 0)
    assert json.loads(shown.out)[0]["name"] == "Größe"
    assert json.loads(exported.out)["name"] == "Zürich"


@pytest.mark.databases("sqlite")
def test_a_reader_that_leaves_early_gets_no_traceback_and_the_work_is_done(server, list_file, commands):
    path, gates = held_list(server, list_file)
    reading, writing = os.pipe()
    run = commands.start("batch", "run", "--checker", "http", str(path), stdout=writing)
    run.wait_for(lambda: hits(server) == HALF_WAY)
    os.close(reading)
    listing = commands.start("batch", "list", stdout=writing)
    os.close(writing)
    for gate in gates:
        gate.open()
    assert (run.ended(), run.err) == (0, "")
    assert (listing.ended(), listing.err) == (0, "")
    assert row_statuses(only_batch()) == ["ok"] * 8

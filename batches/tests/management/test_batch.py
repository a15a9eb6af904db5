"""`manage.py batch`: making batches of lists, looking at them, and steering them."""

import io
import json

import pytest

from batches.batch_manager import BatchManager
from batches.models import Batch, Profile
from batches.tests.support.factories import (
    everything,
    failed,
    half_checked,
    last_line,
    make_batch,
    make_waiting,
    ok,
    record_one,
    start_run,
    urls,
    values_of,
    waiting_names,
)

pytestmark = pytest.mark.django_db

Status = Batch.Status
UNKNOWN = "00000000-0000-4000-8000-000000000000"
BATCH_KEYS = {
    "id", "name", "status", "position", "priority", "checker", "total_profiles", "completed_profiles",
    "successful_checks", "failed_checks", "stories_found", "progress", "error", "created_at", "started_at",
    "completed_at", "run_seconds", "previous",
}  # fmt: skip


@pytest.fixture
def list_file(tmp_path):
    """Writes a list to a file; its path."""

    def write(content, name="morning.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# -- Making ------------------------------------------------------------------------------------------------------------


def test_a_list_becomes_a_queued_batch_named_after_its_file(manage, list_file):
    make_batch("first")
    answer = manage("batch", "create", list_file("https://a.example/\nhttps://b.example/\nhttps://a.example\n"))
    batch = Batch.objects.get(name="morning")
    assert answer == (
        0,
        "2 profiles, 1 duplicate, 0 rejected lines\n"
        f"Created “morning”, queued at position 2: {batch.pk}\n",
        "",
    )  # fmt: skip
    assert [row.profile.url for row in batch.profiles.order_by("pk")] == ["https://a.example/", "https://b.example/"]


def test_the_options_say_how_the_batch_is_made(manage, list_file):
    make_batch("first")
    options = ["--name", "  Press   list ", "--priority", "3", "--checker", "http"]
    manage("batch", "create", *options, list_file("https://a.example/"))
    batch = Batch.objects.get(name="Press list")
    assert (batch.priority, batch.checker, batch.position) == (3, "http", 1)


def test_a_paused_batch_is_made_outside_of_the_queue(manage, list_file):
    answer = manage("batch", "create", "--paused", list_file("https://a.example/"))
    assert "Created “morning”, paused: " in answer.out
    assert Batch.objects.get().status == Status.PAUSED


def test_a_list_comes_from_standard_input(manage):
    answer = manage("batch", "create", "-", "--format", "csv", stdin=piped(b"name,url\nA,https://a.example/\n"))
    assert answer.code == 0
    assert Batch.objects.get().name == "Standard input"
    assert Profile.objects.get().name == "A"


def test_the_name_of_the_file_tells_the_format_unless_an_option_does(manage, list_file):
    path = list_file('{"url": "https://a.example/"}\n', "list.jsonl")
    assert manage("batch", "create", path).code == 0
    assert manage("batch", "create", "--format", "opml", path).code == 1
    assert Batch.objects.count() == 1


def test_a_batch_is_made_as_json_for_programs(manage, list_file):
    answer = manage("batch", "create", "--json", list_file("https://a.example/\nftp://b.example/\n"))
    made = json.loads(answer.out)
    assert made.keys() == BATCH_KEYS
    assert made["id"] == str(Batch.objects.get().pk)
    assert answer.err.startswith("1 profile, 0 duplicates, 1 rejected line\n  line 2: ")


def test_rejected_lines_are_shown_with_their_reasons_and_the_rest_goes_in(manage, list_file):
    content = "https://a.example/\nftp://b.example/\x1b[31m\u202e\n" + "nonsense\n" * 11
    answer = manage("batch", "create", list_file(content))
    assert answer.code == 0
    assert "1 profile, 0 duplicates, 12 rejected lines" in answer.out
    lines = answer.err.splitlines()
    assert lines[0] == "  line 2: It contains a control character (U+001B). (ftp://b.example/ [31m )"
    assert lines[9].startswith("  line 11: It has no scheme")
    assert lines[10:] == ["  and 2 more"]
    assert Batch.objects.get().total_profiles == 1


def test_strict_makes_nothing_if_a_single_line_is_rejected(manage, list_file):
    answer = manage("batch", "create", "--strict", list_file("https://a.example/\nnonsense\n"))
    assert (answer.code, answer.out) == (1, "")
    assert "morning.txt: 1 entry is not valid (line 2: It has no scheme" in answer.err
    assert manage("batch", "create", "--strict", "-", stdin=piped(b"https://a.example/\nnonsense\n")).code == 1
    assert_nothing_made()


def piped(content):
    return io.TextIOWrapper(io.BytesIO(content))


def assert_nothing_made():
    assert not Batch.objects.exists()
    assert not Profile.objects.exists()


@pytest.mark.parametrize("action", ["create", "run"])
def test_a_dry_run_reports_and_stores_nothing(action, manage, list_file):
    answer = manage("batch", action, "--dry-run", list_file("https://a.example/\nnonsense\n"))
    assert (answer.code, answer.out) == (0, "1 profile, 0 duplicates, 1 rejected line\n")
    assert answer.err.startswith("  line 2: ")
    assert answer.err.endswith("Dry run: nothing was saved.\n")
    assert_nothing_made()


@pytest.mark.parametrize(
    ("content", "name", "sentence"),
    [
        ("", "a.txt", "The list is empty. Add at least one URL."),
        (b"\x00\x01\x02" * 50, "a.txt", "This is a binary file, not a list of addresses."),
        ("https://a.example/".encode("utf-16"), "a.txt", "The list is in UTF-16 or UTF-32; save it as UTF-8."),
        ("<opml><body><outline", "a.opml", "The OPML is broken in line 1:"),
        ("name,address\nA,https://a.example/", "a.csv", 'Line 1 has no column "url", only: name, address.'),
        ('url\n"https://a.example/', "a.csv", "The quote opened in line 2 is never closed"),
        ("url\n" + "a" * 131_073, "a.csv", "Line 2 has a field of more than 131,072 characters."),
    ],
)
def test_a_list_that_cannot_be_read_gets_one_sentence_and_nothing_is_made(content, name, sentence, manage, list_file):
    path = list_file(content, name)
    answer = manage("batch", "create", path)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"{path}: {sentence}")
    assert "\n" not in answer.err
    assert_nothing_made()


def test_a_bad_list_from_standard_input_is_called_so(manage):
    assert manage("batch", "create", "-").err == "Standard input: The list is empty. Add at least one URL."


def test_a_file_that_cannot_be_read_gets_one_sentence(manage, tmp_path):
    loop = tmp_path / "loop.txt"
    loop.symlink_to(loop)
    for path, reason in [
        (tmp_path / "missing.txt", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (loop, "Too many levels of symbolic links"),
    ]:
        answer = manage("batch", "create", path)
        assert answer == (1, "", f"Cannot read {path}: {reason}")
    assert_nothing_made()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--priority", "40000"], "The priority must be a whole number from -32,768 to 32,767."),
        (["--name", "n" * 201], "A batch needs a name of 1 to 200 characters."),
        (["--checker", "magic"], "Error: argument --checker: invalid choice: 'magic' (choose from 'feed', 'http')"),
    ],
)
def test_a_batch_that_cannot_be_made_gets_one_sentence(options, sentence, manage, list_file):
    answer = manage("batch", "create", *options, list_file("https://a.example/"))
    assert (answer.code, answer.err) == (1, sentence)
    assert_nothing_made()


def test_without_a_list_there_is_nothing_to_make(manage):
    answer = manage("batch", "create")
    assert answer == (1, "", "The list is missing. Name a file, or - for standard input.")


# -- Looking -----------------------------------------------------------------------------------------------------------


def test_the_list_shows_the_queue_in_its_order_and_then_the_others(manage):
    it = half_checked(Status.RUNNING)
    paused = make_batch("set aside", 1, queue=False)
    header, *lines = manage("batch", "list").out.splitlines()
    assert header.split() == ["pos", "status", "name", "prio", "checked", "ok", "failed", "stories", "id"]
    assert [line.split()[:3] for line in lines] == [
        ["0", "running", "it"],
        ["1", "queued", "first"],
        ["2", "queued", "last"],
        ["-", "paused", "set"],
    ]
    assert lines[0].split()[3:] == ["0", "2/3", "1", "1", "1", str(it.pk)]
    assert lines[3].endswith(str(paused.pk))


def test_the_list_can_be_of_one_status_and_cut(manage):
    make_waiting(3)
    make_batch("set aside", queue=False)
    assert len(manage("batch", "list", "--status", "queued").out.splitlines()) == 4
    assert len(manage("batch", "list", "--limit", "2").out.splitlines()) == 3


def test_the_list_is_json_for_programs(manage):
    make_waiting(2)
    shown = json.loads(manage("batch", "list", "--json").out)
    assert [batch["name"] for batch in shown] == ["1", "2"]
    assert shown[0].keys() == BATCH_KEYS
    assert shown[0]["progress"] == {"percent": 0, "rate": None, "seconds_left": None}


def test_an_empty_list_says_how_to_begin(manage):
    assert manage("batch", "list").out == "No batches. Create one: manage.py batch create FILE\n"
    assert manage("batch", "list", "--json").out == "[]\n"


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1e3", "99999999999999999999", "٣"])
@pytest.mark.parametrize("action", [["batch", "list"], ["batch", "logs", "0000"], ["queue", "show"]])
@pytest.mark.databases("sqlite")
def test_a_limit_that_is_none_is_refused(action, limit, manage):
    answer = manage(*action, "--limit", limit)
    assert (answer.code, answer.err) == (
        1,
        f"Error: argument --limit: {limit!r} is not a whole number from 1 to 1,000,000.",
    )


def test_a_batch_is_shown_with_its_failures_stories_and_log(manage):
    batch = half_checked(Status.ERROR)
    shown = manage("batch", "show", batch.pk).out
    for line in (
        f"it  ({batch.pk})",
        "  status     error",
        "  checked    2 of 3 (66 %)",
        "  failed     1",
        "  stories    1 new",
        "  error      It broke.",
        "        1  It answers with 500.",
        "  new  (https://example.org/0)",
    ):
        assert f"{line}\n" in shown
    assert shown.splitlines()[-4].split()[2:] == [
        "handle_error",
        "running",
        "→",
        "error",
        "-",
        "(code):",
        "It",
        "broke.",
    ]


def test_a_batch_is_shown_as_json_with_its_failures_and_stories(manage):
    batch = half_checked(Status.DONE)
    shown = json.loads(manage("batch", "show", "--json", batch.pk).out)
    assert shown.keys() == BATCH_KEYS | {"failures", "stories"}
    assert shown["failures"] == [{"reason": "It answers with 500.", "count": 1}]
    (story,) = shown["stories"]
    assert (story["story_id"], story["profile_url"]) == ("new", urls(1)[0])


def test_stories_that_an_earlier_time_found_are_not_shown_as_new(manage):
    batch = half_checked(Status.DONE)
    BatchManager().queue_batch(batch.pk)
    assert json.loads(manage("batch", "show", "--json", batch.pk).out)["stories"] == []
    assert "New stories" not in manage("batch", "show", batch.pk).out


def test_more_stories_and_reasons_than_fit_are_counted(manage):
    run = start_run(make_batch("it", 14))
    record_one(run, ok(*map(str, range(12))))
    for number in range(12):
        record_one(run, failed(f"Reason {number}"))
    lines = manage("batch", "show", run.batch.pk).out.splitlines()
    assert "           and 2 more reasons" in lines
    assert f"  and 2 more: manage.py batch show --json {run.batch.pk}" in lines


def test_the_log_shows_what_happened_newest_first(manage):
    batch = make_batch("it")
    BatchManager("Ada").pause_batch(batch.pk)
    lines = manage("batch", "logs", batch.pk).out.splitlines()
    assert [line.split()[2:] for line in lines] == [
        ["pause_batch", "queued", "1", "→", "paused", "Ada", "(code)"],
        ["create_batch", "queued", "1", "-", "(code):", "0", "profiles"],
    ]
    assert len(manage("batch", "logs", "--limit", "1", batch.pk).out.splitlines()) == 1


def test_what_a_stranger_wrote_does_not_command_the_terminal(manage):
    run = start_run(make_batch("it\x1b[2J\x9b1m", 2))
    record_one(run, failed("\x1b]0;owned\x07"))
    record_one(run, ok("\x9b2J\u202e"))
    stranger = BatchManager("\x1b[31mroot")
    stranger.hold_queue("\x1b[5m")
    stranger.set_priority(run.batch.pk, 1)
    for command in (["batch", "list"], ["batch", "show", run.batch.pk], ["batch", "logs", run.batch.pk]):
        assert_harmless(manage(*command).out)
    for command in (["batch", "show", "--json", run.batch.pk], ["queue", "show"]):
        assert_harmless(manage(*command).out)


def assert_harmless(text):
    assert text
    assert [character for character in text.replace("\n", "") if not character.isprintable()] == []


# -- Which batch is meant ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    [
        lambda pk: str(pk),
        lambda pk: pk.hex,
        lambda pk: pk.hex[:4],
        lambda pk: str(pk)[:8].upper(),
        lambda pk: str(pk)[:9],
        lambda pk: str(pk)[:20],
        lambda pk: f" {pk} ",
    ],
)
def test_a_batch_is_found_by_its_id_or_the_beginning_of_it(spelling, manage):
    batch = make_batch("it")
    assert json.loads(manage("batch", "show", "--json", spelling(batch.pk)).out)["id"] == str(batch.pk)


def test_the_beginning_of_several_ids_is_refused(manage):
    for number in (1, 2):
        Batch(name="it", pk=f"abcdef00-0000-4000-8000-00000000000{number}").save()
    answer = manage("batch", "pause", "abcdef")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == "Several batches have an ID that starts with 'abcdef'. Enter more characters.\n"
    assert manage("batch", "show", "abcdef00-0000-4000-8000-000000000002").code == 0


@pytest.mark.parametrize("batch_id", [UNKNOWN, UNKNOWN[:6], "abc", "", "%", "____", "123", "x" * 10_000, "\udcff" * 8])
def test_an_id_that_no_batch_has_is_refused(batch_id, manage):
    make_batch("it")
    answer = manage("batch", "show", "--", batch_id)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == f"No batch has the ID {batch_id[:40]!r}. List the batches: manage.py batch list"


def test_a_deleted_batch_is_not_found(manage):
    batch = make_batch("it")
    BatchManager().delete_batch(batch.pk)
    assert manage("batch", "show", batch.pk).code == 1


@pytest.mark.parametrize(
    "command",
    [
        ["show"], ["logs"], ["queue"], ["start"], ["pause"], ["retry"], ["repeat"], ["delete"], ["export"],
        ["move", "1"], ["priority", "1"], ["run", "--resume"],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_every_action_refuses_an_unknown_id_and_changes_nothing(command, manage):
    half_checked(Status.RUNNING)
    before = everything()
    action, *rest = command
    arguments = [*rest, UNKNOWN] if action == "run" else [UNKNOWN, *rest]
    answer = manage("batch", action, *arguments)
    assert (answer.code, answer.out) == (1, "")
    assert f"No batch has the ID '{UNKNOWN}'" in answer.err
    assert everything() == before


# -- Steering ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "status", "after", "says"),
    [
        ("queue", Status.PAUSED, Status.QUEUED, "“it” was queued."),
        ("start", Status.PAUSED, Status.RUNNING, "“it” was started. A worker will begin shortly."),
        ("pause", Status.RUNNING, Status.PAUSED, "“it” was paused."),
        ("retry", Status.DONE, Status.QUEUED, "“it” was queued to check its failed profiles again."),
    ],
)
def test_a_transition_is_made_and_said(action, status, after, says, manage):
    batch = half_checked(status)
    assert manage("batch", action, batch.pk) == (0, f"{says}\n", "")
    assert values_of(batch.pk)["status"] == after


def test_the_log_says_who_came_through_which_door(manage, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    batch = make_batch("it")
    manage("batch", "pause", batch.pk)
    assert (last_line().actor, last_line().channel) == ("ada", "command")


@pytest.mark.parametrize(
    ("action", "status", "reason"),
    [
        ("queue", Status.RUNNING, "“it” is running. Only a batch that is"),
        ("start", Status.DONE, "“it” is done. Only a batch that is queued or paused can be started."),
        ("pause", Status.DONE, "“it” is done. Only a batch that is"),
        ("retry", Status.RUNNING, "“it” is running. Only a batch that is"),
        ("delete", Status.RUNNING, "“it” is running. Only a batch that is"),
    ],
)
def test_a_refusal_exits_1_with_its_reason_and_changes_nothing(action, status, reason, manage):
    batch = half_checked(status)
    before = everything()
    answer = manage("batch", action, batch.pk)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(reason)
    assert everything() == before


def test_a_start_is_refused_while_another_runs(manage):
    waiting = make_batch("waiting")
    start_run(make_batch("busy"))
    before = everything()
    answer = manage("batch", "start", waiting.pk)
    assert answer == (1, "", "“busy” is running, and only one batch can run at a time. Pause it first.\n")
    assert everything() == before


def test_a_start_is_refused_while_the_queue_is_held(manage):
    waiting = make_batch("waiting")
    BatchManager().hold_queue("Maintenance")
    before = everything()
    answer = manage("batch", "start", waiting.pk)
    assert answer == (1, "", "The queue is held: Maintenance. Release it first.\n")
    assert everything() == before


def test_one_that_is_refused_does_not_keep_the_others_from_what_they_can_do(manage):
    first, second, third = make_waiting(3)
    BatchManager().complete_batch(second.pk)
    answer = manage("batch", "pause", first.pk, second.pk, UNKNOWN, third.pk)
    assert answer.code == 1
    assert answer.out == "“1” was paused.\n“3” was paused.\n"
    assert [line[:20] for line in answer.err.splitlines()] == ["“2” is done. Only a ", "No batch has the ID "]
    assert [values_of(batch.pk)["status"] for batch in (first, second, third)] == ["paused", "done", "paused"]


@pytest.mark.parametrize(("position", "order"), [("1", "312"), ("2", "132"), ("99999999999999", "123"), ("-5", "312")])
def test_a_batch_is_moved_within_the_queue(position, order, manage):
    *_, third = make_waiting(3)
    answer = manage("batch", "move", third.pk, position)
    assert answer == (0, f"“3” is at position {order.index('3') + 1}.\n", "")
    assert "".join(waiting_names()) == order


def test_a_batch_that_does_not_wait_cannot_be_moved(manage):
    batch = half_checked(Status.PAUSED)
    answer = manage("batch", "move", batch.pk, 1)
    assert answer == (1, "", "“it” is paused. Only a batch that is queued can be moved.")


def test_a_priority_puts_a_batch_at_the_end_of_its_new_band(manage):
    *_, third = make_waiting(3)
    assert manage("batch", "priority", third.pk, 5) == (0, "“3” has priority 5.\n", "")
    assert waiting_names() == ["3", "1", "2"]
    assert manage("batch", "priority", third.pk, 99_999).code == 1


def test_a_repetition_is_a_new_batch_whose_id_is_shown(manage):
    batch = half_checked(Status.DONE)
    answer = manage("batch", "repeat", batch.pk)
    repetition = Batch.objects.get(previous=batch)
    assert answer == (0, f"A repeat of “it” was queued. {repetition.pk}\n", "")
    assert f"  repeats    {batch.pk}\n" in manage("batch", "show", repetition.pk).out


# -- Deleting ----------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """Standard input of a person who has typed this."""

    def isatty(self):
        return True


@pytest.mark.parametrize("text", ["y\n", "Yes\n"])
def test_at_a_terminal_a_deletion_is_asked_for(text, manage):
    batch = make_batch("it")
    other = make_batch("other")
    answer = manage("batch", "delete", batch.pk, other.pk, stdin=Terminal(text))
    assert answer.out == "Delete “it”, “other” with all results? [y/N] “it” was deleted.\n“other” was deleted.\n"
    assert not Batch.objects.exists()


@pytest.mark.parametrize("text", ["n\n", "\n", ""], ids=["no", "nothing", "end of input"])
def test_what_is_not_confirmed_is_not_deleted(text, manage):
    batch = make_batch("it")
    answer = manage("batch", "delete", batch.pk, stdin=Terminal(text))
    assert (answer.code, answer.err) == (1, "Nothing was deleted.")
    assert Batch.objects.exists()


def test_nothing_is_asked_with_yes_or_without_a_terminal(manage):
    batch, other = make_batch("it"), make_batch("other")
    assert manage("batch", "delete", "--yes", batch.pk, stdin=Terminal()).out == "“it” was deleted.\n"
    assert manage("batch", "delete", other.pk, stdin=piped(b"n\n")).code == 0
    assert not Batch.objects.exists()

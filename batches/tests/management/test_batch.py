"""`manage.py batch`: create batches from lists, inspect them, and control them."""

import io
import json

import pytest
from django.contrib.auth.models import User

from batches.batch_manager import BatchManager
from batches.conf import command_line
from batches.models import Batch, BatchProfile, Profile, ProfileList, public_fields
from batches.tests.support.factories import (
    failed,
    half_checked,
    half_known,
    last_line,
    make_batch,
    make_waiting,
    ok,
    profile_ids,
    record,
    record_one,
    row_statuses,
    start_run,
    unchanged,
    urls,
    values_of,
    waiting_names,
)
from batches.tests.support.terminal import Terminal

pytestmark = pytest.mark.django_db

Status = Batch.Status
A_REJECT = b"https://a.example/\nnonsense\n"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def piped(content):
    return io.TextIOWrapper(io.BytesIO(content))


def assert_nothing_created():
    assert not Batch.objects.exists()
    assert not Profile.objects.exists()


# -- Creating ----------------------------------------------------------------------------------------------------------


def test_a_list_becomes_a_queued_batch_named_after_its_file(manage, list_file):
    make_batch("first")
    output = manage("batch", "create", list_file("https://a.example/\nhttps://b.example/\nhttps://a.example\n"))
    batch = Batch.objects.get(name="morning")
    lines = ["2 profiles, 1 duplicate, 0 rejected lines", f"Created “morning”, queued at position 2: {batch.pk}"]
    assert output == (0, "\n".join([*lines, ""]), "")
    assert [row.profile.url for row in batch.profiles.order_by("pk")] == ["https://a.example/", "https://b.example/"]


def test_options_set_the_values_of_the_new_batch(manage, list_file):
    make_batch("first")
    options = ["--name", "  Press   list ", "--priority", "3", "--checker", "http"]
    manage("batch", "create", *options, list_file())
    batch = Batch.objects.get(name="Press list")
    assert (batch.priority, batch.checker, batch.position) == (3, "http", 1)
    assert "Created “morning”, paused: " in manage("batch", "create", "--paused", list_file()).out
    assert Batch.objects.get(name="morning").status == Status.PAUSED
    path = list_file('{"url": "https://a.example/"}\n', "list.jsonl")
    assert manage("batch", "create", path).code == 0  # its name sets the format, unless an option does
    assert manage("batch", "create", "--format", "opml", path).code == 1


def test_a_new_batch_can_start_before_all_others(manage, list_file):
    first = half_checked("running")
    output = manage("batch", "create", "--now", list_file())
    batch = Batch.objects.get(name="morning")
    assert output.out.splitlines()[1:] == [
        f"Created “morning”, queued at position 3: {batch.pk}",
        "“morning” was started. A worker will begin shortly.",
    ]
    assert (batch.status, waiting_names()) == (Status.RUNNING, ["it", "first", "last"])
    assert last_line().message == "interrupts “it”"
    assert manage("batch", "start", first.pk).code == 1
    assert manage("batch", "start", first.pk, "--now").out == "“it” was started. A worker will begin shortly.\n"
    assert waiting_names() == ["morning", "first", "last"]


def test_a_new_batch_that_cannot_start_now_waits_and_the_reason_is_printed(manage, list_file):
    BatchManager().hold_queue("repairs")
    output = manage("batch", "create", "--now", "--json", list_file())
    assert (output.code, json.loads(output.out)["status"]) == (1, "queued")
    assert output.err.endswith("The queue is held: repairs. Release it first.")


def test_a_list_can_come_from_standard_input(manage):
    content = piped(b"name,url\nA,https://a.example/\n")
    assert manage("batch", "create", "-", "--format", "csv", stdin=content).code == 0
    assert (Batch.objects.get().name, Profile.objects.get().name) == ("Standard input", "A")


def test_with_json_the_new_batch_is_printed_and_the_report_goes_to_stderr(manage, list_file):
    output = manage("batch", "create", "--json", list_file("https://a.example/\nftp://b.example/\n"))
    created = json.loads(output.out)
    assert tuple(created) == (*public_fields.BATCH, "progress")
    assert created["id"] == str(Batch.objects.get().pk)
    assert output.err.startswith("1 profile, 0 duplicates, 1 rejected line\n  line 2: ")


def test_rejected_lines_are_listed_with_reasons_and_the_others_are_imported(manage, list_file):
    content = "https://a.example/\nftp://b.example/\x1b[31m\u202e\n" + "nonsense\n" * 11
    output = manage("batch", "create", list_file(content))
    assert output.code == 0
    assert "1 profile, 0 duplicates, 12 rejected lines" in output.out
    lines = output.err.splitlines()
    assert lines[0] == "  line 2: It contains a control character (U+001B). (ftp://b.example/ [31m)"
    assert lines[9].startswith("  line 11: ")
    assert lines[10:] == ["  and 2 more"]
    assert Batch.objects.get().total_profiles == 1


@pytest.mark.parametrize("action", ["create", "run"])
def test_a_dry_run_reports_and_saves_nothing(action, manage, list_file):
    output = manage("batch", action, "--dry-run", list_file("https://a.example/\nnonsense\n"))
    assert (output.code, output.out) == (0, "1 profile, 0 duplicates, 1 rejected line\n")
    assert output.err.startswith("  line 2: ")
    assert output.err.endswith("Dry run: nothing was saved.\n")
    assert_nothing_created()


def test_a_list_that_cannot_be_read_gets_one_sentence(manage, tmp_path):
    assert manage("batch", "create", tmp_path) == (1, "", f"Cannot read {tmp_path}: Is a directory")
    sentence = "Cannot read a b.txt: this is not a valid file name."
    assert manage("batch", "create", "a\0b.txt") == (1, "", sentence)
    assert manage("batch", "create") == (1, "", "The list is missing. Name a file, or - for standard input.")
    assert_nothing_created()


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        (b"", [], "{list}: The list is empty. Add at least one URL."),
        (A_REJECT, ["--strict"], "{list}: 1 entry is not valid (line 2: It has no scheme; start it with https://)."),
        (A_REJECT, ["--priority", "40000"], "The priority must be a whole number from -32,768 to 32,767."),
        (A_REJECT, ["--checker", "x"], "Error: argument --checker: invalid choice: 'x' (choose from 'feed', 'http')"),
    ],
)
@pytest.mark.parametrize("action", ["create", "run"])
def test_an_invalid_list_or_option_gets_one_sentence_and_nothing_is_created(
    action, content, options, sentence, manage, list_file
):
    path = list_file(content)
    for argument, name in ((path, str(path)), ("-", "Standard input")):
        output = manage("batch", action, *options, argument, stdin=piped(content))
        assert (output.code, output.err.splitlines()[-1]) == (1, sentence.format(list=name))
    assert_nothing_created()


# -- Inspecting --------------------------------------------------------------------------------------------------------


def test_the_list_shows_the_queue_in_order_and_then_the_others(manage):
    it = half_checked(Status.RUNNING)
    paused = make_batch("set aside", 1, queue=False)
    header, *lines = manage("batch", "list").out.splitlines()
    assert header.split() == ["pos", "status", "name", "prio", "checked", "ok", "failed", "skipped", "stories", "id"]
    assert [line.split()[:3] for line in lines] == [
        ["0", "running", "it"],
        ["1", "queued", "first"],
        ["2", "queued", "last"],
        ["-", "paused", "set"],
    ]
    assert lines[0].split()[3:] == ["0", "2/3", "1", "1", "0", "1", str(it.pk)]
    assert lines[3].endswith(str(paused.pk))
    assert len(manage("batch", "list", "--status", "queued").out.splitlines()) == 3
    assert manage("batch", "list", "--limit", "2").out.splitlines()[3:] == ["and 2 more; show all with --limit"]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("batch list", f"No batches. Create one: {command_line('batch create FILE')}"),
        ("token list", f"No tokens. Create one: {command_line('token create USER')}"),
        ("queue show", "The queue is empty."),
        ("list show", f"No lists. Create one: {command_line('list create NAME FILE')}"),
        ("list feed list", f"No feeds. Create one: {command_line('list feed create LIST NAME')}"),
        ("queue subscriptions", f"Nobody is subscribed. Subscribe somebody: {command_line('queue subscribe ADDRESS')}"),
        ("profile resting", "No profile rests."),
        ("redirect list", "No profile redirects permanently."),
    ],
)
def test_an_empty_list_says_how_to_begin(command, sentence, manage):
    assert manage(*command.split()) == (0, f"{sentence}\n", "")
    listed = json.loads(manage(*command.split(), "--json").out)
    assert (listed["waiting"] if command == "queue show" else listed) == []


@pytest.mark.parametrize("number", ["0", "-1", "x", "", "1e3", "1000001", "99999999999999999999", "٣", "８"])
@pytest.mark.databases("sqlite")
def test_an_invalid_number_is_refused(number, manage):
    sentence = f"Error: argument --limit: {number!r} is not a whole number from 1 to 1,000,000."
    for action in (["batch", "list"], ["batch", "logs", "0000"], ["queue", "show"]):
        assert manage(*action, "--limit", number) == (1, "", sentence)
    sentence = f"Error: argument --days: {number!r} is not a whole number from 1 to 36,500."
    assert manage("batch", "prune", "--days", number) == (1, "", sentence)
    for port in (number, "65536"):
        sentence = f"Error: argument --port: {port!r} is not a valid port number (1 to 65535)."
        assert manage("serve", "--port", port) == (1, "", sentence)


def test_a_batch_is_shown_with_its_failures_stories_and_log(manage):
    batch = half_checked(Status.ERROR)
    Batch.objects.filter(pk=batch.pk).update(run_seconds=0.0013)
    output = manage("batch", "show", batch.pk).out
    for line in (
        f"it  ({batch.pk})",
        "  status     error",
        "  checked    2 of 3 (66 %)",
        "  failed     1",
        "  stories    1 new",
        "  rate       1,538.5 profiles/s",
        "  error      It broke.",
        "        1  It answers with 500.",
        "  new  (https://example.org/0)",
    ):
        assert f"{line}\n" in output
    assert "  handle_error       running → error        - (code): It broke.\n" in output


def test_more_stories_and_reasons_than_fit_are_counted(manage):
    run = start_run(make_batch("it", 14))
    record_one(run, ok(*map(str, range(12))))
    for number in range(12):
        record_one(run, failed(f"Reason {number}"))
    lines = manage("batch", "show", run.batch.pk).out.splitlines()
    assert "           and 2 more reasons" in lines
    BatchProfile.objects.filter(error="Reason 11").update(error="Reason 10")
    assert "           and 1 more reason" in manage("batch", "show", run.batch.pk).out.splitlines()
    assert f"  and 2 more: {command_line('batch show --json')} {run.batch.pk}" in lines


def test_the_log_shows_what_happened_newest_first(manage):
    batch = make_batch("it")
    BatchManager("Ada").pause_batch(batch.pk)
    lines = manage("batch", "logs", batch.pk).out.splitlines()
    assert [" ".join(line.split()[3:]) for line in lines] == [
        "pause_batch queued 1 → paused Ada (code)",
        "create_batch queued 1 - (code): 0 profiles",
    ]
    assert len(manage("batch", "logs", "--limit", "1", batch.pk).out.splitlines()) == 1


def test_json_has_the_details_for_programs_and_the_stories_of_the_last_run_only(manage):
    batch = half_checked(Status.DONE)
    details = json.loads(manage("batch", "show", "--json", batch.pk).out)
    assert tuple(details) == (*public_fields.BATCH, "progress", "failures", "stories")
    assert details["failures"] == [{"reason": "It answers with 500.", "count": 1}]
    assert [(story["story_id"], story["profile_url"]) for story in details["stories"]] == [("new", urls(1)[0])]
    BatchManager().queue_batch(batch.pk)
    assert json.loads(manage("batch", "show", "--json", batch.pk).out)["stories"] == []
    assert "New stories" not in manage("batch", "show", batch.pk).out


def test_the_baseline_is_shown_on_request(manage):
    batch = half_known()
    new, known = [f"  {story}  ({urls(2)[1]})" for story in "cb"], f"  a  ({urls(2)[0]})"
    hint = [
        "Some profiles were read for the first time. Their stories are the baseline and do not count as new.",
        f"Show them: {command_line('batch show --baseline')} {batch.pk}",
    ]
    for options, title, lines, ids in (
        ([], "New stories", [*new, *hint], ["c", "b"]),
        (["--baseline"], "Stories, including the baseline", [*new, known], ["c", "b", "a"]),
    ):
        shown = manage("batch", "show", *options, batch.pk).out.splitlines()
        assert shown[shown.index(title) + 1 : shown.index("Log")] == lines
        details = json.loads(manage("batch", "show", "--json", *options, batch.pk).out)
        assert [story["story_id"] for story in details["stories"]] == ids


NASTY = "it\x1b[2J\x9b1m\u202e\nforged"


@pytest.mark.parametrize(
    "arguments",
    [
        ("batch", "list"),
        ("batch", "show", "{running}"),
        ("batch", "show", "--json", "{running}"),
        ("batch", "logs", "{running}"),
        ("batch", "start", "{running}"),
        ("batch", "delete", "{running}"),
        ("batch", "move", "{running}", "1"),
        ("batch", "priority", "{running}", "3"),
        ("batch", "pause", "{done}"),
        ("batch", "retry", "{done}"),
        ("batch", "run", "--resume", "{done}"),
        ("batch", "show", NASTY),
        ("batch", "create", NASTY),
        ("batch", "export", "{done}", "--output", f"/nothing/{NASTY}"),
        ("batch", "list", "--limit", NASTY),
        ("list", "show"),
        ("list", "show", "{list}"),
        ("list", "add", "{list}", "{file}"),
        ("list", "run", "{list}"),
        ("token", "create", NASTY),
        ("token", "revoke", "root", NASTY),
        ("queue", "show"),
        ("queue", "hold", "--reason", NASTY),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_no_text_of_a_stranger_reaches_the_terminal_raw(manage, list_file, arguments):
    User.objects.create_superuser("root")
    done, running = (make_batch(NASTY, 2) for _ in range(2))
    Batch.objects.update(name=NASTY)
    assert BatchManager().complete_batch(done.pk)
    run = start_run(running)
    record_one(run, failed(NASTY))
    record_one(run, ok(NASTY))
    BatchManager(NASTY).set_priority(running.pk, 1)
    BatchManager(NASTY).hold_queue(NASTY)
    found = ProfileList.objects.create(name=NASTY)
    given = {"running": running.pk, "done": done.pk, "list": found.pk, "file": list_file()}
    output = manage(*(part.format(**given) for part in arguments))
    lines = (output.out + output.err).splitlines()
    assert lines
    assert "".join(lines).isprintable(), lines
    assert not [line for line in lines if line.startswith("forged")]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "opml"])
def test_an_export_is_printable_at_a_terminal_and_otherwise_exact(manage, kind):
    batch = make_batch(profiles=1)
    Profile.objects.update(name=NASTY)
    terminal = Terminal()
    assert manage("batch", "export", batch.pk, "--format", kind, stdout=terminal).code == 0
    lines = terminal.getvalue().split("\n")
    assert urls(1)[0] in "".join(lines)
    assert "".join(lines).isprintable()
    assert "\u202e" in manage("batch", "export", batch.pk, "--format", kind).out


# -- Finding a batch ---------------------------------------------------------------------------------------------------


def test_a_batch_is_found_by_its_id_or_its_first_characters(manage):
    batch = make_batch("it")
    text = str(batch.pk)
    for spelling in (text, batch.pk.hex, text[:4], text[:8].upper(), text[:9], text[:20], f" {text} "):
        assert manage("batch", "show", spelling).out.startswith(f"it  ({text})"), spelling
    assert manage("batch", "show", text[:3]).code == 1


def test_an_ambiguous_id_is_refused(manage):
    for number in (1, 2):
        Batch(name="it", pk=f"abcdef00-0000-4000-8000-00000000000{number}").save()
    sentence = "Several batches have an ID that starts with 'abcdef'. Enter more characters.\n"
    assert manage("batch", "pause", "abcdef") == (1, "", sentence)
    assert manage("batch", "show", "abcdef00-0000-4000-8000-000000000002").code == 0


@pytest.mark.parametrize("batch_id", [UNKNOWN, UNKNOWN[:6], "abc", "", "%", "____", "123", "x" * 10_000, "\udcff" * 8])
def test_the_id_of_an_unknown_or_deleted_batch_is_refused(batch_id, manage):
    deleted = make_batch("it").pk
    assert BatchManager().delete_batch(deleted)
    for unknown in (batch_id, str(deleted)):
        sentence = f"No batch has the ID {unknown[:40]!r}. List the batches: {command_line('batch list')}"
        assert manage("batch", "show", "--", unknown) == (1, "", sentence)


def test_every_action_refuses_an_unknown_id_and_changes_nothing(refuse):
    half_checked(Status.RUNNING)
    actions = ["show", "logs", "queue", "start", "pause", "retry", "repeat", "delete", "export", "run --resume"]
    for command in [*(f"{action} {UNKNOWN}" for action in actions), f"move {UNKNOWN} 1", f"priority {UNKNOWN} 1"]:
        assert f"No batch has the ID '{UNKNOWN}'" in refuse("batch", *command.split()), command


# -- Steering ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "status", "after", "sentence"),
    [
        ("queue", Status.PAUSED, Status.QUEUED, "“it” was queued."),
        ("start", Status.PAUSED, Status.RUNNING, "“it” was started. A worker will begin shortly."),
        ("pause", Status.RUNNING, Status.PAUSED, "“it” was paused."),
        ("undo", Status.PAUSED, Status.RUNNING, "The last change of “it” was undone."),
        ("retry", Status.DONE, Status.QUEUED, "“it” was queued to recheck its failed profiles."),
    ],
)
def test_an_action_changes_the_status_says_so_and_logs_who_did_it(action, status, after, sentence, manage, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    batch = half_checked(status)
    assert manage("batch", action, batch.pk) == (0, f"{sentence}\n", "")
    assert values_of(batch.pk)["status"] == after
    assert (last_line().actor, last_line().channel) == ("ada", "command")


def test_several_changes_are_undone_from_the_last_to_the_first(manage):
    _, *moved = make_waiting(4)
    for batch in moved:
        assert BatchManager().move_batch(batch.pk, 1)
    assert waiting_names() == ["4", "3", "2", "1"]
    output = manage("batch", "undo", *(batch.pk for batch in moved), UNKNOWN)
    assert (output.code, output.err.count("\n")) == (1, 1)
    assert waiting_names() == ["1", "2", "3", "4"]


def test_a_pause_can_have_a_reason(manage):
    batch = half_checked(Status.RUNNING)
    assert manage("batch", "pause", batch.pk, "--reason", "The feeds move.").code == 0
    assert (last_line().action, last_line().message) == ("pause_batch", "The feeds move.")


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (["--reason", "gone", "--reason", "odd"], ["pending", "failed", "pending"]),
        (["--profile", urls(2)[1], "--profile", "{first}"], ["pending", "pending", "failed"]),
    ],
)
def test_a_retry_can_take_some_of_the_failed_profiles(options, rows, manage):
    run = start_run(make_batch("it", 3))
    ids = profile_ids(run.batch)
    results = [failed("gone"), failed("slow"), failed("odd")]
    record(run, zip(ids, results, strict=True))
    assert BatchManager().finish_run(run.batch.pk, run.run_token)
    with unchanged():
        output = manage("batch", "retry", run.batch.pk, "--reason", "never")
        assert (output.code, output.err) == (1, "None of the failed profiles of “it” was chosen.\n")
        both = manage("batch", "retry", run.batch.pk, "--reason", "gone", "--profile", ids[0])
        assert (both.code, "not allowed with" in both.err) == (1, True)
        assert "No profile has the address" in manage("batch", "retry", run.batch.pk, "--profile", "https://x.org/").err
    assert manage("batch", "retry", run.batch.pk, *(it.format(first=ids[0]) for it in options)).code == 0
    assert row_statuses(run.batch) == rows
    history = json.loads(manage("profile", "history", ids[0], "--json").out)
    assert [(check["status"], check["error"], check["is_earlier"]) for check in history] == [("failed", "gone", True)]
    assert "failed (repeated)" in manage("profile", "history", ids[0]).out
    assert manage("profile", "history", ids[-1]).code == 0


@pytest.mark.parametrize(
    ("action", "status", "reason"),
    [
        (["start"], Status.DONE, "“it” is done. Only a batch that is queued or paused can be started."),
        (["move", 1], Status.PAUSED, "“it” is paused. Only a batch that is queued can be moved."),
    ],
)
def test_a_refusal_exits_with_1_gives_the_reason_and_changes_nothing(action, status, reason, refuse):
    batch = half_checked(status)
    assert refuse("batch", action[0], batch.pk, *action[1:]).startswith(reason)


def test_a_refused_batch_does_not_stop_the_others(manage):
    first, second, third = make_waiting(3)
    BatchManager().complete_batch(second.pk)
    output = manage("batch", "pause", first.pk, second.pk, UNKNOWN, third.pk)
    assert (output.code, output.out) == (1, "“1” was paused.\n“3” was paused.\n")
    assert [line[:20] for line in output.err.splitlines()] == ["“2” is done. Only a ", "No batch has the ID "]
    assert [values_of(batch.pk)["status"] for batch in (first, second, third)] == ["paused", "done", "paused"]


@pytest.mark.parametrize(
    ("action", "value", "sentence", "order"),
    [
        ("move", -5, "“3” is at position 1.", "312"),
        ("move", 99999999999999, "“3” is at position 3.", "123"),
        ("priority", 5, "“3” has priority 5.", "312"),
    ],
)
def test_a_batch_is_moved_within_the_queue(action, value, sentence, order, manage):
    *_, third = make_waiting(3)
    assert manage("batch", action, third.pk, value) == (0, f"{sentence}\n", "")
    assert "".join(waiting_names()) == order


def test_a_repeat_is_a_new_batch_and_its_id_is_printed(manage):
    batch = half_checked(Status.DONE)
    output = manage("batch", "repeat", batch.pk)
    repeat = Batch.objects.get(previous=batch)
    assert output == (0, f"A new run of “it” was queued. {repeat.pk}\n", "")
    assert f"  previous   {batch.pk}\n" in manage("batch", "show", repeat.pk).out


@pytest.mark.parametrize(
    ("reply", "is_deleted"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_a_deletion_at_a_terminal_needs_a_yes(reply, is_deleted, manage):
    batch, other = make_batch("it"), make_batch("other")
    question = "Delete “it”, “other” with all results? [y/N] "
    done = (0, f"{question}“it” was deleted.\n“other” was deleted.\n", "")
    output = manage("batch", "delete", batch.pk, other.pk, stdin=Terminal(reply))
    assert output == (done if is_deleted else (1, question, "Nothing was deleted."))
    assert Batch.objects.exists() is not is_deleted


def test_a_deletion_with_yes_or_without_a_terminal_asks_nothing(manage):
    batch, other = make_batch("it"), make_batch("other")
    assert manage("batch", "delete", "--yes", batch.pk, stdin=Terminal()).out == "“it” was deleted.\n"
    assert manage("batch", "delete", other.pk, stdin=piped(b"n\n")).code == 0
    assert not Batch.objects.exists()

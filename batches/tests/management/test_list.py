"""`manage.py list`: lists at a terminal and for programs."""

import io
import json

import pytest

from batches.batch_manager import BatchManager
from batches.conf import command_line
from batches.models import Batch, BatchLog, Profile, ProfileList, public_fields
from batches.tests.support.factories import last_line, make_batch, make_list, start_run, unchanged, urls, urls_of
from batches.tests.support.terminal import Terminal

pytestmark = pytest.mark.django_db

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def file(list_file):
    """Writes these addresses to a file."""
    return lambda addresses: list_file("".join(f"{address}\n" for address in addresses))


# Creating


def test_a_list_is_created_from_a_file(manage, file):
    path = file([*urls(2), "nonsense"])
    output = manage("list", "create", " The  news ", path, "--priority", "3", "--checker", "http")
    created = ProfileList.objects.get()
    assert (created.name, created.priority, created.checker, urls_of(created)) == ("The news", 3, "http", urls(2))
    assert output.out == (
        f"2 profiles, 0 duplicates, 1 rejected line\nCreated the list “The news” with 2 profiles: {created.pk}\n"
    )
    assert output.err.startswith("  line 3: ")
    assert (last_line().action, last_line().channel) == ("create_list", "command")
    assert not Batch.objects.exists()


def test_a_list_is_created_without_profiles_or_from_standard_input(manage):
    assert manage("list", "create", "Empty").out.startswith("Created the list “Empty” with 0 profiles: ")
    content = io.TextIOWrapper(io.BytesIO(b"url,name\nhttps://a.example/,A\n"))
    assert json.loads(manage("list", "create", "Piped", "-", "--json", stdin=content).out)["total_profiles"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "taken"], "Another list has the name “taken”. Choose another name."),
        (["create", " "], "A list needs a name of 1 to 200 characters."),
        (["create", "x", "/no/such/file"], "Cannot read /no/such/file: No such file or directory"),
        (["change", "taken"], "Nothing to change. Give at least one of --name, --priority, --checker, --count-first."),
        (["correct", "taken", "https://a.example/", "x"], "'x' is not a valid profile address: It has no scheme"),
        (["show", "nothing"], f"No list has the name or ID 'nothing'. Show the lists: {command_line('list show')}"),
        (["run", UNKNOWN], f"No list has the name or ID '{UNKNOWN}'."),
        (["delete", "\0"], "No list has the name or ID '"),
        (["export", "\ud800"], "No list has the name or ID '"),
        (["schedule", "taken", "0 0 30 2 *"], "The day of month of “0 0 30 2 *” is not valid, or never comes."),
    ],
)
def test_a_refused_action_exits_with_1_and_says_what_to_do(refuse, arguments, message):
    make_list("taken", 1)
    assert refuse("list", *arguments).startswith(message)


def test_a_dry_run_changes_nothing(manage, file):
    make_list("News", 3)
    make_batch(profiles=5)
    path = file(urls(5)[2:])
    with unchanged():
        for arguments, expected in {
            ("create", "Other"): "3 profiles, 0 duplicates, 0 rejected lines\n",
            ("add", "News"): "3 profiles, 0 duplicates, 0 rejected lines\n“News”: +2 −0 =3\n",
            ("remove", "News"): "3 profiles, 0 duplicates, 0 rejected lines\n“News”: +0 −1 =2\n",
            ("import", "News"): "3 profiles, 0 duplicates, 0 rejected lines\n“News”: +2 −2 =1\n",
        }.items():
            assert manage("list", *arguments, path, "--dry-run") == (0, expected, "Dry run: nothing was saved.\n")


# Showing


def test_all_lists_are_shown_with_their_sizes(manage):
    news, press = make_list("News", 1200, priority=2), make_list("A press", 1)
    assert manage("list", "show").out.splitlines() == [
        "name     profiles  prio  checker  next run  id",
        f"A press  1         0     feed     -         {press.pk}",
        f"News     1,200     2     feed     -         {news.pk}",
    ]
    shown = json.loads(manage("list", "show", "--json").out)
    assert [tuple(found) for found in shown] == [public_fields.LIST] * 2
    assert [found["total_profiles"] for found in shown] == [1, 1200]


def test_a_list_is_shown_with_its_runs_and_its_log(manage):
    found = make_list("News", 3)
    run = BatchManager("ada").run_list(found.pk)
    output = manage("list", "show", str(found.pk)[:4]).out
    assert output.startswith(f"News  ({found.pk})\n  profiles   3\n")
    assert f"queued   0 of 3 checked, 0 failed, 0 new stories  {run.pk}\n" in output
    assert "run_list" in output
    assert "create_list" in output
    shown = json.loads(manage("list", "show", "News", "--json").out)
    assert [(batch["id"], batch["list"]) for batch in shown["runs"]] == [(str(run.pk), str(found.pk))]
    Batch.objects.update(stories_found=1)
    assert f", 1 new story  {run.pk}\n" in manage("list", "show", "News").out


def test_a_list_is_found_by_its_name_before_an_id_that_begins_like_it(manage):
    first = make_list("first")
    named = make_list(str(first.pk)[:4])
    assert json.loads(manage("list", "show", named.name, "--json").out)["id"] == str(named.pk)


# Editing


def test_attributes_are_changed(manage):
    found = make_list("News")
    assert manage("list", "change", "News", "--name", "Press", "--priority", "0").out == "“Press” was changed.\n"
    changed = json.loads(manage("list", "change", "Press", "--priority", "7", "--checker", "http", "--json").out)
    assert changed.items() >= {"id": str(found.pk), "name": "Press", "priority": 7, "checker": "http"}.items()


def test_profiles_are_added_and_removed(manage, file):
    found = make_list("News", 2)
    assert manage("list", "add", "News", file(urls(4))).out.endswith("“News”: +2 −0 =2\n")
    assert urls_of(found) == urls(4)
    output = manage("list", "remove", "News", file(urls(3)), "--json")
    assert json.loads(output.out) == {"added": 0, "removed": 3, "unchanged": 1}
    assert urls_of(found) == urls(4)[3:]


def test_an_address_is_corrected(manage):
    found = make_list("News", 1)
    assert manage("list", "correct", "News", *urls(1), "https://new.example").out == "The address was corrected.\n"
    assert urls_of(found) == ["https://new.example/"]
    assert Profile.objects.count() == 1


def test_an_import_makes_the_list_the_same_as_the_file(manage, file):
    found = make_list("News", 10)
    assert manage("list", "import", "News", file(urls(12)[1:])).out.endswith("“News”: +2 −1 =9\n")
    assert urls_of(found) == urls(12)[1:]


def test_an_import_that_removes_more_than_a_tenth_asks_first(manage, file):
    found = make_list("News", 10)
    path = file(urls(8))
    warning = "This would remove 2 of the 10 profiles of “News”, more than a tenth."
    with unchanged():
        output = manage("list", "import", "News", path)
        assert (output.code, output.err) == (
            1,
            f"{warning} Nothing was changed. Check the list, then repeat the command with --yes.",
        )
        output = manage("list", "import", "News", path, stdin=Terminal("n\n"))
        assert (output.code, output.err) == (1, "Nothing was changed.")
        assert f"{warning} Remove them? [y/N] " in output.out
    assert manage("list", "import", "News", path, stdin=Terminal("y\n")).code == 0
    assert urls_of(found) == urls(8)
    assert manage("list", "import", "News", file(["https://a.example/"]), "--yes").out.endswith("“News”: +1 −8 =0\n")


def test_a_list_that_changes_during_the_question_is_not_overwritten(manage, file, monkeypatch):
    found = make_list("News", 10)

    def answer(question):
        assert BatchManager().add_profiles(found.pk, urls(30))
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    output = manage("list", "import", "News", file(urls(8)), stdin=Terminal())
    assert (output.code, output.err) == (1, "“News” has changed. Check it and try again.")
    assert urls_of(found) == urls(30)


@pytest.mark.parametrize("format", ["csv", "jsonl", "opml"])
def test_an_export_can_be_imported_again(manage, format, tmp_path):
    found, path = make_list("News", 3), tmp_path / f"list.{format}"
    assert manage("list", "export", "News", "--format", format, "--output", path).code == 0
    with unchanged():
        assert manage("list", "import", "News", path).out.endswith("“News”: +0 −0 =3\n")
    printed = manage("list", "export", "News", "--format", format).out
    assert printed.replace("\r\n", "\n") == path.read_bytes().decode().replace("\r\n", "\n")
    assert urls_of(found) == urls(3)


# Schedules


def test_a_schedule_is_set_shown_in_words_and_switched_off(manage, settings):
    found = make_list("News", 1)
    assert manage("list", "schedule", "News").out == "“News”: no schedule\n"
    output = manage("list", "schedule", "News", "30 6 * * *", "--time-zone", "Asia/Kolkata", "--delay", "5").out
    lines = output.splitlines()
    assert lines[0] == "“News”: At 06:30 every day (Asia/Kolkata), up to 5 minutes later"
    assert lines[1].startswith("Next run: ")
    assert lines[2].startswith("Next times: ")
    assert lines[2].count(" 01:00:00 UTC") == 3  # in the time zone of the server
    assert "schedule   At 06:30 every day" in manage("list", "show", "News").out
    assert manage("list", "schedule", "News", "--off").out == (
        "“News”: At 06:30 every day (Asia/Kolkata), up to 5 minutes later, off\n"
    )
    shown = json.loads(manage("list", "schedule", "News", "--on", "--json").out)
    found.refresh_from_db()
    assert (shown["schedule_active"], shown["next_run_at"] is not None) == (True, True)
    assert manage("list", "schedule", "News", "").out.startswith("“News”: no schedule")


# Running and deleting


def test_a_list_is_run(manage):
    found = make_list("News", 3)
    make_batch("before")
    output = manage("list", "run", "News").out
    run = found.runs.get()
    assert output == f"Queued “News” at position 2 with 3 profiles: {run.pk}\n"
    with unchanged():
        assert manage("list", "run", "News").err == "A run of “News” is already waiting at position 2."
    start_run(run)
    assert BatchManager().complete_batch(run.pk)
    again = json.loads(manage("list", "run", "News", "--now", "--json").out)
    assert (again["previous"], again["status"]) == (str(run.pk), "running")


def test_a_list_is_deleted_after_a_question(manage):
    make_list("News", 3)
    with unchanged():
        output = manage("list", "delete", "News", stdin=Terminal("\n"))
    assert output == (1, "Delete the list “News” with 3 profiles? [y/N] ", "Nothing was deleted.")
    assert manage("list", "delete", "News", stdin=Terminal("y\n")).out.endswith("“News” was deleted.\n")
    assert not ProfileList.objects.exists()
    make_list("Press")
    assert manage("list", "delete", "Press").code == 0  # from a script, nobody is asked


def test_a_new_batch_can_be_kept_as_a_list(manage, file):
    assert manage("batch", "create", file(urls(2)), "--name", "News", "--keep").code == 0
    kept = ProfileList.objects.get()
    assert (kept.name, urls_of(kept), Batch.objects.get().list) == ("News", urls(2), kept)
    assert BatchLog.objects.filter(list=kept).count() == 2
    with unchanged():
        output = manage("batch", "create", file(urls(2)), "--name", "News", "--keep")
    assert output.err == "Another list has the name “News”. Choose another name."

"""`manage.py profile`: profiles are forgotten by address or ID, counted first; those that rest are checked again."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.management.output import when
from batches.models import Batch, BatchLog, Profile
from batches.queue.refusals import Code, Refusal
from batches.tests.support.factories import make_batch, make_list, ok, record_one, start_run, unchanged, urls
from batches.tests.support.terminal import Terminal

pytestmark = pytest.mark.django_db

COUNTED = "2 rows in batches, 2 stories and 2 memberships in lists"


@pytest.fixture
def profiles():
    make_list("people", 2)
    record_one(start_run(make_batch("it", 3)), ok("a", "b"))
    return list(Profile.objects.order_by("pk"))


def test_profiles_are_named_by_address_or_id_and_each_counts_once(manage, profiles):
    output = manage("profile", "forget", "https://EXAMPLE.org/0", profiles[1].pk, profiles[0].pk)
    assert (output.code, output.out) == (0, f"2 profiles forgotten: {COUNTED}.\n")
    assert list(Profile.objects.all()) == profiles[2:]
    assert BatchLog.objects.filter(action="forget_profile", channel="command", batch=None, list=None).count() == 2


@pytest.mark.parametrize("options", [[], ["--yes"]])
def test_a_dry_run_changes_nothing(manage, profiles, options):
    with unchanged():
        output = manage("profile", "forget", *urls(2), "--dry-run", *options)
        counts = json.loads(manage("profile", "forget", *urls(2), "--dry-run", "--json").out)
    assert counts == {"profiles": 2, "rows": 2, "stories": 2, "lists": 2}
    assert output == (0, f"2 profiles would be forgotten: {COUNTED}.\n", "Dry run: nothing was deleted.\n")


def test_a_terminal_is_asked_first(manage, profiles):
    with unchanged():
        output = manage("profile", "forget", *urls(2), stdin=Terminal("n\n"))
    assert (output.code, output.err) == (1, "Nothing was deleted.")
    assert output.out == "\n".join([*urls(2), f"Forget 2 profiles, with {COUNTED}? [y/N] "])
    assert manage("profile", "forget", *urls(1), stdin=Terminal("y\n")).code == 0
    assert manage("profile", "forget", urls(2)[1], "--yes", stdin=Terminal("")).code == 0
    assert list(Profile.objects.all()) == profiles[2:]


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("999", "No profile has the ID '999'."),
        ("https://unknown.example/", "No profile has the address https://unknown.example/."),
        ("ftp://unknown.example/", "is neither an address nor an ID"),
        ("\x1b[31m", "is neither an address nor an ID"),
    ],
)
def test_an_unknown_profile_is_refused_before_anything_is_deleted(refuse, profiles, wanted, sentence):
    reason = refuse("profile", "forget", urls(1)[0], wanted)
    assert sentence in reason
    assert "\x1b" not in reason


def test_refusals_are_reported_line_by_line_and_the_others_are_forgotten(manage, profiles, monkeypatch):
    real, kept = BatchManager.forget_profile, profiles[:2]

    def refuse_some(manager, pk):
        refusal = Refusal(Code.BEING_ADDED, f"{pk} is being stored.")
        return refusal if pk in {profile.pk for profile in kept} else real(manager, pk)

    monkeypatch.setattr(BatchManager, "forget_profile", refuse_some)
    output = manage("profile", "forget", *urls(3))
    assert output.code == 1
    assert output.out.startswith("1 profile forgotten: ")
    assert output.err.splitlines() == [f"{profile.pk} is being stored." for profile in kept]
    assert list(Profile.objects.order_by("pk")) == kept


# Profiles that rest


@pytest.fixture
def resting(profiles):
    """The first two of three profiles."""
    now = timezone.now()
    memory = {"failures": 4, "failing_since": now - timedelta(days=2), "last_error": "It is \x1bgone."}
    for number, profile in enumerate(profiles[:2]):
        until = now + timedelta(hours=2 - number)
        Profile.objects.filter(pk=profile.pk).update(rests_until=until, **memory)
    return list(Profile.objects.filter(failures=4).order_by("rests_until"))


def test_those_that_rest_are_listed_with_the_reason_and_the_next_try(manage, resting):
    header, *lines = manage("profile", "resting").out.splitlines()
    assert header.split("  ")[0] == "id"
    assert [line.split()[:3] for line in lines] == [[str(each.pk), each.url, "4"] for each in resting]
    assert all(line.endswith("It is  gone.") for line in lines)
    assert when(resting[0].rests_until) in lines[0]
    limited = manage("profile", "resting", "--limit", "1").out.splitlines()
    assert limited[2:] == ["and 1 more; show all with --limit"]
    found = json.loads(manage("profile", "resting", "--host", "example.org", "--json").out)
    assert [each["id"] for each in found] == [each.pk for each in resting]
    assert manage("profile", "resting", "--host", "other.example").out == "No profile rests.\n"


@pytest.mark.parametrize(("arguments", "count"), [(["--resting"], 2), ([urls(3)[2]], 1)])
def test_they_are_checked_now_in_a_new_batch(manage, resting, arguments, count):
    output = manage("profile", "check", *arguments, "--priority", "3", "--name", "Back?")
    batch = Batch.objects.get(name="Back?")
    assert (output.code, batch.priority, batch.total_profiles) == (0, 3, count)
    total = "2 profiles" if count == 2 else "1 profile"
    assert output.out == f"Queued “Back?” at position 1 with {total}: {batch.pk}\n"
    assert json.loads(manage("profile", "check", *arguments, "--json").out)["name"] == "Check now"


NAME_THEM = "Name the profiles, or use --resting (with --host for those at one host)."


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], NAME_THEM),
        (["--resting", "1"], NAME_THEM),
        (["1", "--host", "example.org"], NAME_THEM),
        (["--resting", "--host", "other.example"], "No profile rests. Nothing was created."),
        (["--resting", "--host", "a/b"], "a/b: "),
        (["https://unknown.example/"], "No profile has the address https://unknown.example/."),
    ],
)
def test_a_refused_check_exits_with_1(refuse, resting, arguments, reason):
    assert refuse("profile", "check", *arguments).startswith(reason)

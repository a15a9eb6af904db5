"""`manage.py redirect`: list and accept permanent redirects."""

import json

import pytest

from batches.models import BatchLog, Profile, Redirect
from batches.tests.support.factories import propose_redirect, unchanged

pytestmark = pytest.mark.django_db

OLD, NEW = "https://old.example/", "https://new.example/"


@pytest.fixture
def proposed():
    Profile.objects.create(url="https://known.example/")
    propose_redirect("https://recent.example/", NEW, checks=1)
    return [propose_redirect(OLD, NEW), propose_redirect("https://old.example/b", "https://known.example/")]


def test_the_list_shows_the_effect_of_each(manage, proposed):
    output = manage("redirect", "list")
    lines = [line.split()[:4] for line in output.out.splitlines()]
    assert lines[0] == ["id", "profile", "new", "address"]
    assert lines[1] == [str(proposed[0].pk), OLD, NEW, "moves"]
    assert lines[2][3] == "merges"
    assert "recent.example" not in output.out
    found = json.loads(manage("redirect", "list", "--json").out)
    assert [(each["old_url"], each["url"], each["merges"]) for each in found] == [
        (OLD, NEW, False),
        ("https://old.example/b", "https://known.example/", True),
    ]
    assert manage("redirect", "list", "--limit", "1").out.endswith("and 1 more; show all with --limit\n")
    assert manage("redirect", "list", "--host", "other.example").out == "No profile redirects permanently.\n"


def test_one_or_all_at_a_host_are_accepted(manage, proposed):
    elsewhere = propose_redirect("https://elsewhere.example/", "https://moved.example/")
    output = manage("redirect", "accept", proposed[0].pk)
    assert (output.code, output.out) == (0, f"{OLD} → {NEW}\n1 redirect accepted.\n")
    [accepted] = json.loads(manage("redirect", "accept", "--all", "--host", "old.example", "--json").out)
    known = Profile.objects.get(url="https://known.example/")
    assert accepted == {"profile": known.pk, "old_url": "https://old.example/b", "url": known.url, "merged": True}
    assert list(Redirect.objects.proposed()) == [elsewhere]
    assert BatchLog.objects.filter(action="accept_redirect", channel="command").count() == 2


@pytest.mark.parametrize("which", [["--all"], ["{}"]])
def test_a_dry_run_changes_nothing(manage, proposed, which):
    which = [part.format(proposed[0].pk) for part in which]
    with unchanged():
        output = manage("redirect", "accept", *which, "--dry-run")
        assert (output.code, output.err) == (0, "Dry run: nothing was saved.\n")
        assert OLD in output.out
        assert json.loads(manage("redirect", "accept", *which, "--dry-run", "--json").out)[0]["url"] == NEW


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "or use --all"),
        (["1", "--all"], "or use --all"),
        (["1", "--host", "old.example"], "or use --all"),
        (["--all", "--host", "a/b"], "Give only a host"),
        (["x"], "No proposed redirect has the ID 'x'."),
        (["x", "--dry-run"], "No proposed redirect has the ID 'x'."),
    ],
)
def test_an_unknown_proposal_is_refused(manage, proposed, arguments, sentence):
    with unchanged():
        output = manage("redirect", "accept", *arguments)
    assert (output.code, output.out) in {(1, ""), (1, "0 redirects accepted.\n")}
    assert sentence in output.err

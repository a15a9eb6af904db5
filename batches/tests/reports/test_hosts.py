"""The figures of hosts, by the last check of each of their profiles."""

from datetime import timedelta

import pytest
from django.utils import timezone

from batches.models import Host, Profile
from batches.reports import hosts
from batches.reports.hosts import at_host, find_failing_hosts, find_pauses
from batches.tests.support.tables import explain, statements_of

pytestmark = pytest.mark.django_db

NOW = timezone.now().replace(microsecond=0)


def add(url, error="", seconds=None, minutes_ago=0):
    """A profile that was checked this many minutes ago."""
    failure = {"last_error": error, "failures": 1, "failing_since": NOW} if error else {}
    checked_at = NOW - timedelta(minutes=minutes_ago)
    Profile.objects.create(url=url, last_checked_at=checked_at, last_duration=seconds, **failure)


def names(found):
    return [each.host for each in found.hosts]


def test_the_host_with_the_most_failing_profiles_comes_first_with_the_figures_of_their_last_checks():
    add("https://a.example/1", "Gone.", seconds=9, minutes_ago=2)
    add("http://a.example/2", "Slow.", seconds=1, minutes_ago=1)
    add("https://a.example/3", seconds=2)
    add("https://a.example/4")
    add("https://a.example.org/", "Gone.")
    add("https://fine.example/")
    found = find_failing_hosts(9)
    assert (names(found), found.total) == (["a.example", "a.example.org"], 2)
    first, second = found.hosts
    assert (first.profiles, first.failing, first.failing_percent, first.median_seconds) == (4, 2, 50.0, 2)
    assert (first.last_error, first.last_failed_at) == ("Slow.", NOW - timedelta(minutes=1))
    assert (second.profiles, second.failing, second.failing_percent, second.median_seconds) == (1, 1, 100.0, None)


def test_a_host_is_found_by_a_part_of_its_name_and_by_its_whole_name_even_if_nothing_fails():
    for url in ("https://a.example/", "https://b.example:8080/1", "https://b.example:8080/2"):
        add(url, "Gone.")
    add("https://fine.example/", seconds=1)
    found = find_failing_hosts(1)
    assert (names(found), found.total) == (["b.example:8080"], 2)
    assert names(find_failing_hosts(9, ".EXAMPLE")) == ["b.example:8080", "a.example"]
    assert names(find_failing_hosts(9, "a.")) == ["a.example"]
    [fine] = find_failing_hosts(9, " Fine.Example ").hosts
    assert (fine.host, fine.profiles, fine.failing, fine.failing_percent) == ("fine.example", 1, 0, 0.0)
    for number in range(2):
        add(f"https://sub.a.example/{number}", "Gone.")
    found = find_failing_hosts(1, "a.example")
    assert ([(each.host, each.failing) for each in found.hosts], found.total) == ([("a.example", 1)], 2)
    Profile.objects.filter(url="https://a.example/").update(last_error="", failures=0, failing_since=None)
    found = find_failing_hosts(1, "a.example")
    assert ([(each.host, each.failing) for each in found.hosts], found.total) == ([("a.example", 0)], 2)
    for nothing in ("fine", "no.example", "%", "_", "'", "x" * 300, "a b", "[::1"):
        assert find_failing_hosts(9, nothing).total == 0, nothing


def test_the_profiles_of_a_large_host_are_not_counted_to_the_end(monkeypatch):
    monkeypatch.setattr(hosts, "MOST_COUNTED", 3)
    for scheme in ("http", "https"):
        for number in range(2):
            add(f"{scheme}://a.example/{number}", "Gone.")
    [found] = find_failing_hosts(9).hosts
    assert (found.profiles, found.has_more, found.failing, found.failing_percent) == (3, True, 4, None)


def test_a_host_rests_when_its_domain_has_asked_for_a_pause():
    add("https://news.a.example/", "Gone.")
    add("https://b.example/", "Gone.")
    asked = Host.objects.create(name="a.example", not_before=timezone.now() + timedelta(hours=1), refusals=3)
    slow = Host.objects.create(name="slow.example", not_before=timezone.now(), interval=2.0)
    Host.objects.create(name="b.example", not_before=timezone.now() - timedelta(hours=1))
    assert {each.host: each.pause for each in find_failing_hosts(9).hosts} == {
        "news.a.example": asked,
        "b.example": None,
    }
    assert find_pauses(9) == [asked, slow]
    assert find_pauses(1) == [asked]


@pytest.mark.parametrize(("others", "is_sorted"), [([], False), (["http://a.example/z"], True)])
def test_the_profiles_of_a_host_are_in_the_order_of_bytes_as_in_their_index(others, is_sorted):
    """PostgreSQL would walk along all addresses to find several ranges in their order."""
    own = [f"https://a.example/{name}" for name in ("B", "a", "b", "ä")]
    for url in (*reversed(own), *others, "https://a.example.org/", "https://b.example/"):
        add(url)
    found = []
    *_, sql = statements_of(lambda: found.extend(at_host(Profile.objects.all(), "a.example")[:9]))
    assert [profile.url for profile in found] == [*others, *own]
    plan = explain(sql)
    assert ("Sort" in plan or "TEMP B-TREE" in plan) == is_sorted, plan


def test_the_figures_of_many_hosts_are_looked_up_by_index_in_three_queries():
    for number in range(20):
        add(f"https://host-{number}.example/", "Gone.")
    plans = [explain(sql) for sql in statements_of(lambda: find_failing_hosts(10))]
    assert len(plans) == 3
    assert "profile_failing" in plans[0]
    for plan in plans:
        assert "SCAN profile" not in plan
        assert "Seq Scan on batches_profile" not in plan

"""The window assigns profiles fairly by host, and never too many of one host at once."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.checking.checkers.base import ProfileToCheck
from batches.checking.window import Window


def profile(number, host="a.example", feed_url=""):
    return ProfileToCheck(number, f"https://{host}/{number}", feed_url)


def filled(per_host, *hosts):
    """A window with a profile of each of these hosts, in this order."""
    window = Window(per_host)
    for number, host in enumerate(hosts):
        window.add(profile(number, host))
    return window


def take_all(window):
    taken = []
    while profile := window.take():
        taken.append(profile)
    return taken


def hosts_of(profiles):
    return [profile.url.split("/")[2] for profile in profiles]


def test_a_long_block_of_one_host_does_not_block_the_others():
    window = filled(1, *["busy"] * 100, "b", "c")
    assert hosts_of(take_all(window)) == ["busy", "b", "c"]


def test_hosts_take_turns():
    window = filled(1, *["a"] * 3, *["b"] * 3, *["c"] * 3)
    order = []
    while profile := window.take():
        order.append(profile)
        window.release(profile)
    assert "".join(hosts_of(order)) == "abcabcabc"


@pytest.mark.parametrize(
    ("hosts", "feed_url", "ready"),
    [
        (["a.example", "a.example:8080", "b.a.example"], "", 3),
        # The host of the feed counts if it is known.
        (["page.example", "feeds.example"], "https://feeds.example/1", 1),
        (["page.example", "feeds.example"], "http://feeds.example", 1),
        (["page.example", "feeds.example"], "https://feeds.example/a//b?c=/d", 1),
        *((["page.example"], invalid, 1) for invalid in ("/feed.xml", "feed.xml", "mailto:a@b", "//", "://")),
    ],
)
def test_each_host_has_its_own_slots(hosts, feed_url, ready):
    window = Window(1)
    for number, host in enumerate(hosts):
        window.add(profile(number, host, feed_url))
    assert window.ready == len(take_all(window)) == ready


class Model:
    """The simplest possible window: for each host, the profiles that wait and those that are being checked."""

    def __init__(self, per_host):
        self.per_host = per_host
        self.waiting = defaultdict(list)
        self.out = []

    @property
    def ready(self):
        out = Counter(hosts_of(self.out))
        return sum(min(len(waiting), self.per_host - out[host]) for host, waiting in self.waiting.items())


STEPS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from("abc")),
    st.tuples(st.just("take"), st.none()),
    st.tuples(st.just("release"), st.integers(0, 9)),
    st.tuples(st.just("clear"), st.none()),
)


@given(st.integers(1, 3), st.lists(STEPS, max_size=80))
def test_each_profile_is_assigned_once_in_order_and_within_the_limit_of_its_host(per_host, steps):
    window, model = Window(per_host), Model(per_host)
    for number, (step, value) in enumerate(steps):
        if step == "add":
            window.add(profile(number, value))
            model.waiting[value].append(number)
        elif step == "take":
            take(window, model)
        elif step == "release" and model.out:
            window.release(model.out.pop(value % len(model.out)))
        elif step == "clear":
            window.clear()
            model.waiting.clear()
        assert window.ready == model.ready
        assert len(window) == sum(map(len, model.waiting.values()))


def take(window, model):
    expected = model.ready > 0
    taken = window.take()
    assert (taken is not None) == expected
    if taken:
        (host,) = hosts_of([taken])
        assert model.waiting[host].pop(0) == taken.profile_id
        model.out.append(taken)
        assert hosts_of(model.out).count(host) <= model.per_host

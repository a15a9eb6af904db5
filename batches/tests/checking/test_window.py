"""The window hands out what was read: fairly by host, and never too many of one host at once."""

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
    while found := window.take():
        taken.append(found)
    return taken


def hosts_of(profiles):
    return [one.url.split("/")[2] for one in profiles]


def test_an_empty_window_has_nothing_to_hand_out():
    window = Window(2)
    assert window.take() is None
    assert len(window) == window.ready == 0


def test_profiles_of_one_host_come_in_the_order_in_which_they_were_read():
    window = filled(2, *["a"] * 5)
    order = []
    while taken := take_all(window):
        order += [one.profile_id for one in taken]
        for one in taken:
            window.release(one)
    assert order == [0, 1, 2, 3, 4]


def test_no_host_has_more_than_its_limit_at_once():
    window = filled(2, *["a"] * 5)
    first, second = take_all(window)
    assert len(window) == 3
    assert window.ready == 0
    window.release(second)
    assert [one.profile_id for one in take_all(window)] == [2]
    window.release(first)
    assert [one.profile_id for one in take_all(window)] == [3]


def test_a_long_block_of_one_host_does_not_hold_up_the_others():
    window = filled(1, *["busy"] * 100, "b", "c")
    assert hosts_of(take_all(window)) == ["busy", "b", "c"]


def test_hosts_take_turns():
    window = filled(1, *["a"] * 3, *["b"] * 3, *["c"] * 3)
    order = []
    while taken := window.take():
        order.append(taken)
        window.release(taken)
    assert "".join(hosts_of(order)) == "abcabcabc"


def test_a_host_with_another_port_or_name_is_another_host():
    window = filled(1, "a.example", "a.example:8080", "b.a.example")
    assert len(take_all(window)) == 3


@pytest.mark.parametrize(
    "feed_url",
    ["https://feeds.example/1", "http://feeds.example", "https://feeds.example/a//b?c=/d"],
)
def test_the_host_is_that_of_the_feed_where_one_is_remembered(feed_url):
    window = Window(1)
    window.add(profile(1, "feeds.example"))
    window.add(profile(2, "page.example", feed_url))
    assert len(take_all(window)) == 1


@pytest.mark.parametrize("feed_url", ["/feed.xml", "feed.xml", "mailto:a@b", "//", "://"])
def test_a_remembered_feed_address_that_is_none_is_handed_out_all_the_same(feed_url):
    window = Window(1)
    window.add(profile(1, "page.example", feed_url))
    assert [one.feed_url for one in take_all(window)] == [feed_url]


def test_a_cleared_window_hands_out_nothing_and_takes_back_what_is_out():
    window = filled(2, *["a"] * 5, "b")
    out = [window.take(), window.take()]
    window.clear()
    assert len(window) == window.ready == 0
    for one in out:
        window.release(one)
    assert window.take() is None
    window.add(profile(9, "a"))
    assert [one.profile_id for one in take_all(window)] == [9]


class Model:
    """What a window has to do, said as simply as possible: for each host, who waits and who is out."""

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
def test_whatever_happens_each_profile_is_handed_out_once_in_order_and_within_the_limit(per_host, steps):
    window, model = Window(per_host), Model(per_host)
    for number, (step, value) in enumerate(steps):
        if step == "add":
            window.add(profile(number, value))
            model.waiting[value].append(number)
        elif step == "take":
            hand_out(window, model)
        elif step == "release" and model.out:
            window.release(model.out.pop(value % len(model.out)))
        elif step == "clear":
            window.clear()
            model.waiting.clear()
        assert window.ready == model.ready
        assert len(window) == sum(map(len, model.waiting.values()))


def hand_out(window, model):
    expected = model.ready > 0
    taken = window.take()
    assert (taken is not None) == expected
    if taken:
        (host,) = hosts_of([taken])
        assert model.waiting[host].pop(0) == taken.profile_id
        model.out.append(taken)
        assert hosts_of(model.out).count(host) <= model.per_host

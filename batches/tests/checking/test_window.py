"""The window assigns profiles fairly by host, and never too many of one host or of slow hosts at once."""

from collections import Counter, defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batches.checking import window as window_module
from batches.checking.checkers.base import HostPaused, ProfileToCheck
from batches.checking.window import CROWD, HOST_SHARE, Window

CAPACITY = 10_000


def profile(number, host="a.example", feed_url=""):
    return ProfileToCheck(number, f"https://{host}/{number}", feed_url)


def filled(per_host, *hosts, slow_share=100):
    """A window with a profile of each of these hosts, in this order."""
    window = Window(per_host, slow_share, CAPACITY)
    for number, host in enumerate(hosts):
        window.add(profile(number, host))
    return window


def take_all(window):
    taken = []
    while turn := window.take():
        taken.append(turn)
    return taken


def hosts_of(turns):
    return [turn.profile.url.split("/")[2] for turn in turns]


def make_slow(window, *hosts):
    """Check a profile of each of these hosts, which takes long."""
    for host in hosts:
        window.add(profile(0, host))
    for turn in take_all(window):
        window.release(turn, is_slow=True)


def pause(window, host, until):
    window.pause(HostPaused(host, 0.0, "asked us to wait"), until)


def test_a_long_block_of_one_host_does_not_block_the_others():
    window = filled(1, *["busy"] * 100, "b", "c")
    assert hosts_of(take_all(window)) == ["busy", "b", "c"]


def test_a_long_block_of_one_host_counts_little_as_supply():
    window = filled(2, *["busy"] * 3000, "b", "c")
    assert (len(window), window.supply) == (3002, HOST_SHARE + 2)
    turns = [window.take() for _ in range(2)]
    assert (len(window), window.supply) == (3000, HOST_SHARE + 2)
    for turn in turns:
        window.release(turn)
    while turn := window.take():
        window.release(turn)
    assert (len(window), window.supply) == (0, 0)


def test_a_host_with_too_many_profiles_is_crowded():
    window = filled(1, *["busy"] * CROWD, "b")
    assert window.take_crowded() == set()
    window.add(profile(0, "busy"))
    assert [window.take_crowded(), window.take_crowded()] == [{"busy"}, set()]


def test_hosts_take_turns():
    window = filled(1, *["a"] * 3, *["b"] * 3, *["c"] * 3)
    order = []
    while turn := window.take():
        order.append(turn)
        window.release(turn)
    assert "".join(hosts_of(order)) == "abcabcabc"


@pytest.mark.parametrize(
    ("hosts", "feed_url", "ready"),
    [
        (["a.example", "b.example"], "", 2),
        (["a.example", "a.example:8080", "b.a.example"], "", 1),
        (["a.github.io", "b.github.io", "127.0.0.1", "127.0.0.2"], "", 4),
        # The host of the feed counts if it is known.
        (["page.example", "feeds.example"], "https://feeds.example/1", 1),
        (["page.example", "feeds.example"], "http://feeds.example", 1),
        (["page.example", "feeds.example"], "https://feeds.example/a//b?c=/d", 1),
        *((["page.example"], invalid, 1) for invalid in ("/feed.xml", "feed.xml", "mailto:a@b", "//", "://")),
    ],
)
def test_each_host_has_its_own_slots(hosts, feed_url, ready):
    window = Window(1, 100, CAPACITY)
    for number, host in enumerate(hosts):
        window.add(profile(number, host, feed_url))
    assert window.ready == len(take_all(window)) == ready


# Slow hosts


def test_slow_hosts_get_their_share_of_slots_and_the_others_the_rest():
    window = Window(per_host=2, slow_share=3, capacity=CAPACITY)
    make_slow(window, "s1", "s2", "s3")
    for number in range(10):
        for host in ("s1", "s2", "s3", "q1", "q2"):
            window.add(profile(number, host))
    assert window.ready == 4 + 3
    assert sorted(hosts_of(take_all(window))) == ["q1"] * 2 + ["q2"] * 2 + ["s1", "s2", "s3"]


def test_slow_hosts_get_all_slots_when_no_others_will_come():
    window = Window(per_host=2, slow_share=1, capacity=CAPACITY)
    make_slow(window, "s1", "s2")
    for host in ("s1", "s2", "q"):
        window.add(profile(1, host))
    window.add_no_more()
    assert window.ready == 3
    assert hosts_of(take_all(window)) == ["q", "s1", "s2"]


def test_slow_hosts_do_not_keep_the_run_from_reading_on_until_the_window_is_full():
    """Otherwise a list with many slow hosts would be checked in their few slots, while no quick ones were read."""
    window = Window(per_host=1, slow_share=1, capacity=3)
    make_slow(window, "s1", "s2", "s3")
    for host in ("s1", "s2", "q"):
        window.add(profile(1, host))
    assert (window.supply, window.is_full, window.ready) == (1, True, 3)
    quick = window.take()
    assert (window.supply, window.is_full, window.ready) == (0, False, 1)
    window.add(profile(2, "s3"))
    assert (window.is_full, window.ready) == (True, 3)
    window.release(quick)
    assert hosts_of([window.take()]) == ["s1"]
    assert (window.is_full, window.ready) == (False, 0)


def test_a_check_that_has_become_slow_counts_until_it_is_over():
    window = Window(per_host=1, slow_share=1, capacity=CAPACITY)
    make_slow(window, "s")
    window.add(profile(1, "becomes slow"))
    turn = window.take()
    window.mark_slow(turn)
    window.add(profile(2, "s"))
    assert window.take() is None
    window.release(turn, is_slow=True)
    assert window.take() is not None


def test_a_host_that_answers_quickly_again_is_no_longer_slow():
    window = Window(per_host=1, slow_share=1, capacity=CAPACITY)
    make_slow(window, "s1", "s2")
    window.add(profile(1, "s1"))
    window.release(window.take(), is_slow=False)
    for host in ("s1", "s2"):
        window.add(profile(2, host))
    assert len(take_all(window)) == 2


def test_a_check_of_unknown_duration_does_not_change_the_speed_of_its_host():
    window = Window(per_host=1, slow_share=1, capacity=CAPACITY)
    make_slow(window, "s1", "s2")
    window.add(profile(1, "s1"))
    window.release(window.take(), is_slow=None)
    for host in ("s1", "s2"):
        window.add(profile(2, host))
    assert len(take_all(window)) == 1


def test_a_host_that_becomes_slow_takes_its_waiting_profiles_along():
    window = filled(2, *["s"] * 5, slow_share=1)
    turn = window.take()
    window.mark_slow(turn)
    assert window.ready == 0
    window.release(turn, is_slow=True)
    assert window.ready == 1


def test_a_million_slow_hosts_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(window_module, "MAX_SLOW_HOSTS", 10)
    window = Window(per_host=1, slow_share=100, capacity=CAPACITY)
    for number in range(100):
        make_slow(window, f"{number}")
    assert list(window._slow_hosts) == [f"{number}" for number in range(90, 100)]
    assert window._hosts == {}


# Paused hosts


def test_a_paused_host_waits_until_its_pause_is_over_and_the_others_do_not():
    window = filled(2, *["a"] * 3, *["b"] * 2)
    pause(window, "a", 10.0)
    assert (window.next_end_of_pause, window.supply, window.ready) == (10.0, 2, 2)
    assert hosts_of(take_all(window)) == ["b", "b"]
    window.end_pauses(9.9)
    assert window.ready == 0
    window.end_pauses(10.0)
    assert (window.next_end_of_pause, window.supply, window.ready) == (None, 3, 2)
    assert hosts_of(take_all(window)) == ["a", "a"]


def test_a_longer_pause_counts_and_a_shorter_one_does_not():
    window = filled(1, "a")
    for until in (10.0, 20.0, 5.0):
        pause(window, "a", until)
    window.end_pauses(10.0)
    assert (window.ready, window.next_end_of_pause) == (0, 20.0)
    window.end_pauses(20.0)
    assert (window.ready, window.next_end_of_pause) == (1, None)


def test_profiles_that_come_during_a_pause_wait_too():
    window = Window(2, 100, CAPACITY)
    pause(window, "a", 10.0)
    window.add(profile(1, "a"))
    assert (len(window), window.supply, window.ready) == (1, 0, 0)
    window.end_pauses(10.0)
    assert (window.supply, window.ready) == (1, 1)


def test_a_profile_that_met_a_paused_host_waits_for_that_one():
    window = filled(1, "a", "hub", "hub")
    turn = window.take()
    window.release(turn)
    window.put_back(turn, "hub")
    pause(window, "hub", 10.0)
    assert window.ready == 0
    window.end_pauses(10.0)
    order = []
    while turn := window.take():
        order.append(turn)
        window.release(turn)
    assert hosts_of(order) == ["hub", "hub", "a"]


def test_the_profiles_of_paused_hosts_can_be_removed():
    window = filled(1, "a", "a", "b")
    pause(window, "a", 10.0)
    assert [(turn.profile.profile_id, str(reason)) for turn, reason in window.take_paused()] == [
        (0, "asked us to wait"),
        (1, "asked us to wait"),
    ]
    assert (len(window), window.take_paused()) == (1, [])
    window.end_pauses(10.0)
    assert hosts_of(take_all(window)) == ["b"]


# All together


class Model:
    """The simplest possible window: for each host, the profiles that wait and those that are being checked."""

    def __init__(self, per_host, slow_share, capacity):
        self.per_host = per_host
        self.slow_share = slow_share
        self.capacity = capacity
        self.waiting = defaultdict(list)
        self.slow = set()
        self.paused = {}
        self.out = []

    @property
    def free(self):
        """Profiles with a free slot by host."""
        out = Counter(hosts_of(self.out))
        waiting = {host: len(waiting) for host, waiting in self.waiting.items() if host not in self.paused}
        return {host: min(number, self.per_host - out[host]) for host, number in waiting.items()}

    @property
    def ready(self):
        slow = sum(number for host, number in self.free.items() if host in self.slow)
        room = max(0, self.slow_share - sum(turn.is_slow for turn in self.out))
        if sum(map(len, self.waiting.values())) >= self.capacity:
            room = slow
        return sum(self.free.values()) - slow + min(slow, room)

    @property
    def supply(self):
        counted = [waiting for host, waiting in self.waiting.items() if host not in self.slow | self.paused.keys()]
        return sum(min(HOST_SHARE, len(waiting)) for waiting in counted)


HOSTS = st.sampled_from("abc")
STEPS = st.one_of(
    st.tuples(st.just("add"), HOSTS),
    st.tuples(st.just("add"), HOSTS),
    st.tuples(st.just("take"), st.none()),
    st.tuples(st.just("release"), st.tuples(st.integers(0, 9), st.sampled_from([True, False, None]))),
    st.tuples(st.just("mark"), st.integers(0, 9)),
    st.tuples(st.just("pause"), HOSTS),
    st.tuples(st.just("end pauses"), st.none()),
    st.tuples(st.just("take paused"), st.none()),
    st.tuples(st.just("remove"), st.integers(1, 3)),
    st.tuples(st.just("clear"), st.none()),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from([3, CAPACITY]), st.lists(STEPS, max_size=80))
def test_each_profile_is_assigned_once_in_order_and_within_the_limits(per_host, slow_share, capacity, steps):
    window, model = Window(per_host, slow_share, capacity), Model(per_host, slow_share, capacity)
    for number, (step, value) in enumerate(steps):
        if step == "add":
            window.add(profile(number, value))
            model.waiting[value].append(number)
        elif step == "take":
            take(window, model)
        elif step == "release" and model.out:
            turn = model.out.pop(value[0] % len(model.out))
            window.release(turn, is_slow=value[1])
            note_speed(model, turn.host, value[1])
        elif step == "mark" and model.out:
            turn = model.out[value % len(model.out)]
            window.mark_slow(turn)
            note_speed(model, turn.host, True)
        elif step == "pause":
            pause(window, value, float(number))
            model.paused[value] = True
        elif step == "end pauses":
            window.end_pauses(float(number))
            model.paused.clear()
        elif step == "take paused":
            taken = [turn.profile.profile_id for turn, _ in window.take_paused()]
            assert sorted(taken) == sorted(number for host in model.paused for number in model.waiting.pop(host, []))
        elif step == "remove":
            assert sorted(window.waiting) == sorted(pk for waiting in model.waiting.values() for pk in waiting)
            window.remove(pk for pk in window.waiting if pk % value == 0)
            model.waiting.update({host: [pk for pk in pks if pk % value] for host, pks in model.waiting.items()})
        elif step == "clear":
            window.clear()
            model.waiting.clear()
        assert window.ready == model.ready
        assert window.supply == model.supply
        assert len(window) == sum(map(len, model.waiting.values()))


def note_speed(model, host, is_slow):
    if is_slow is not None:
        (model.slow.add if is_slow else model.slow.discard)(host)


def take(window, model):
    expected = model.ready > 0
    turn = window.take()
    assert (turn is not None) == expected
    if turn:
        (host,) = hosts_of([turn])
        assert model.free[host] > 0
        assert model.waiting[host].pop(0) == turn.profile.profile_id
        assert turn.is_slow == (host in model.slow)
        model.out.append(turn)
        assert hosts_of(model.out).count(host) <= model.per_host

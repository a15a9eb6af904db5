"""The window assigns profiles fairly by host, and never too many of one host or of slow hosts at once."""

from collections import Counter, defaultdict
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batches.checking import window as window_module
from batches.checking.checkers.base import HostPaused, ProfileToCheck
from batches.checking.window import Window

CAPACITY = 10_000
#: Both limits of the profiles of a host, so small that random steps reach them.
HOST_SHARE, CROWD = 2, 3


def profile(number, host="a.example", feed_url=""):
    return ProfileToCheck(number, f"https://{host}/{number}", feed_url)


def test_hosts_take_turns():
    window = Window(1, 100, CAPACITY)
    for number, host in enumerate("aaabbbccc"):
        window.add(profile(number, host))
    order = []
    while turn := window.take():
        order.append(turn.host)
        window.release(turn)
    assert "".join(order) == "abcabcabc"


@pytest.mark.parametrize(
    ("hosts", "feed_url", "ready"),
    [
        (["a.example", "b.example"], "", 2),
        (["a.example", "a.example:8080", "b.a.example"], "", 1),
        # The host of the feed counts if it is known.
        (["page.example", "feeds.example"], "https://feeds.example/1", 1),
        (["page.example", "feeds.example"], "http://feeds.example", 1),
        (["page.example", "feeds.example"], "https://feeds.example/a//b?c=/d", 1),
        *((["page.example"], invalid, 1) for invalid in ("/feed.xml", "feed.xml", "mailto:a@b", "//", "://")),
    ],
)
def test_each_domain_has_its_own_slots(hosts, feed_url, ready):
    window = Window(1, 100, CAPACITY)
    for number, host in enumerate(hosts):
        window.add(profile(number, host, feed_url))
    assert window.ready == ready


def test_a_million_slow_hosts_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(window_module, "MAX_SLOW_HOSTS", 10)
    window = Window(1, 100, CAPACITY)
    for number in range(100):
        window.add(profile(number, f"{number}"))
        window.release(window.take(), is_slow=True)
    assert list(window._slow_hosts) == [f"{number}" for number in range(90, 100)]
    assert window._hosts == {}


class Model:
    """The simplest possible window: for each host, the profiles that wait and those that are being checked."""

    def __init__(self, per_host, slow_share, capacity):
        self.per_host = per_host
        self.slow_share = slow_share
        self.capacity = capacity
        self.waiting = defaultdict(list)
        self.crowded = set()
        self.slow = set()
        self.paused = {}  # until when
        self.out = []
        self.is_last = False

    def put(self, host, number):
        self.waiting[host].append(number)
        if len(self.waiting[host]) > CROWD:
            self.crowded.add(host)

    def note_speed(self, host, is_slow):
        if is_slow is not None:
            (self.slow.add if is_slow else self.slow.discard)(host)

    @property
    def size(self):
        return sum(map(len, self.waiting.values()))

    @property
    def is_full(self):
        return self.size >= self.capacity

    @property
    def free(self):
        """Profiles with a free slot by host."""
        out = Counter(turn.host for turn in self.out)
        waiting = {host: len(waiting) for host, waiting in self.waiting.items() if host not in self.paused}
        return {host: min(number, self.per_host - out[host]) for host, number in waiting.items()}

    @property
    def quick(self):
        return sum(number for host, number in self.free.items() if host not in self.slow)

    @property
    def slow_room(self):
        return max(0, self.slow_share - sum(turn.is_slow for turn in self.out))

    @property
    def surplus(self):
        return min(max(0, sum(turn.is_slow for turn in self.out) - self.slow_share), self.quick)

    @property
    def ready(self):
        slow = sum(self.free.values()) - self.quick
        return self.quick + (slow if self.is_last or self.is_full else min(slow, self.slow_room))

    @property
    def supply(self):
        counted = [waiting for host, waiting in self.waiting.items() if host not in self.slow | self.paused.keys()]
        return sum(min(HOST_SHARE, len(waiting)) for waiting in counted)


#: A step that is repeated here is taken more often.
NAMES = [
    *(["add"] * 6 + ["take"] * 4 + ["release"] * 3 + ["mark"] * 2 + ["pause"] * 3 + ["end pauses"] * 2),
    *("put back", "take paused", "take crowded", "remove", "clear"),
]
STEPS = st.tuples(
    st.sampled_from(NAMES), st.sampled_from("abc"), st.integers(0, 20), st.sampled_from([True, False, None])
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([3, CAPACITY]),
    st.lists(STEPS, min_size=20, max_size=80),
    st.integers(0, 100),
)
def test_each_profile_is_assigned_once_in_order_and_within_the_limits(per_host, slow_share, capacity, steps, last):
    window, model = Window(per_host, slow_share, capacity), Model(per_host, slow_share, capacity)
    with patch.multiple(window_module, HOST_SHARE=HOST_SHARE, CROWD=CROWD):
        for now, step in enumerate(steps):
            if now == last:
                window.add_no_more()
                model.is_last = True
            take_step(window, model, now, *step)
            assert_equal(window, model)


def take_step(window, model, now, name, host, number, is_slow):
    turn = model.out[number % len(model.out)] if model.out else None
    if name == "add":
        window.add(profile(now, host))
        model.put(host, now)
    elif name == "take":
        take(window, model)
    elif name == "release" and turn:
        window.release(turn, is_slow=is_slow)
        model.out.remove(turn)
        model.note_speed(turn.host, is_slow)
    elif name == "put back" and turn:
        window.release(turn)
        model.out.remove(turn)
        turn.host = host
        window.put(turn)
        model.put(host, turn.profile.profile_id)
    elif name == "mark" and turn:
        window.mark_slow(turn)
        model.note_speed(turn.host, True)
    elif name == "pause":
        window.pause(HostPaused(host, 0.0, "asked us to wait"), now + number)
        model.paused[host] = max(now + number, model.paused.get(host, 0))
    elif name == "end pauses":
        window.end_pauses(now)
        model.paused = {host: until for host, until in model.paused.items() if until > now}
        assert not model.paused or window.next_end_of_pause > now
    elif name == "take paused":
        taken = sorted((pause.host, turn.profile.profile_id) for turn, pause in window.take_paused())
        assert taken == sorted((host, number) for host in model.paused for number in model.waiting.pop(host, []))
    elif name == "take crowded":
        assert window.take_crowded() == model.crowded
        model.crowded = set()
    elif name == "remove":
        assert sorted(window.waiting) == sorted(pk for waiting in model.waiting.values() for pk in waiting)
        removed = [pk for pk in window.waiting if pk % 3 <= number % 3]
        window.remove(removed)
        for waiting in model.waiting.values():
            waiting[:] = [pk for pk in waiting if pk not in removed]
    elif name == "clear":
        assert sorted(window.clear()) == sorted(number for waiting in model.waiting.values() for number in waiting)
        model.waiting.clear()


def take(window, model):
    ready, quick, free = model.ready, model.quick, model.free
    turn = window.take()
    assert (turn is not None) == (ready > 0)
    if turn:
        assert free[turn.host] > 0
        assert turn.is_slow == (turn.host in model.slow) == (quick == 0)
        assert model.waiting[turn.host].pop(0) == turn.profile.profile_id
        model.out.append(turn)


def assert_equal(window, model):
    assert (window.ready, window.supply, len(window)) == (model.ready, model.supply, model.size)
    assert (window.is_full, window.surplus) == (model.is_full, model.surplus)
    assert (window.next_end_of_pause is not None) == bool(model.paused)
    assert not model.paused or window.next_end_of_pause <= min(model.paused.values())

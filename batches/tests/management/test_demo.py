"""The demo: what `manage.py demo` sets up, and how its feed server responds."""

import socket
import struct
from collections import Counter
from io import StringIO
from threading import Event
from types import SimpleNamespace
from urllib.parse import urlsplit

import fastfeedparser
import feedparser
import pytest
from django.contrib.auth.models import User
from httpx import Client
from lxml import etree

from batches.batch_manager import BatchManager
from batches.demo import profiles as demo
from batches.demo.profiles import DemoFeed
from batches.demo.server import FeedServer, delay
from batches.management.base import start_command
from batches.management.commands.demo import demo_port
from batches.management.commands.serve import Command as Serve
from batches.models import Batch, Profile
from batches.tests.support.factories import everything
from batches.tests.support.ports import free_port

NOON = 1_800_000_000.0


@pytest.fixture
def feed_port():
    return int(free_port())


@pytest.fixture
def set_up(manage, feed_port):
    """Runs `manage.py demo` and returns its output."""

    def run(port=feed_port, **options):
        output = manage("demo", "--feed-port", port, *(f"--{name}={value}" for name, value in options.items()))
        assert output.code == 0
        return output.out

    return run


def password_in(output):
    return output.partition("Password   ")[2].split()[0]


# -- The set-up --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_first_run_creates_three_batches_and_a_login_that_works_and_a_second_one_nothing(set_up, feed_port, client):
    output = set_up(site="http://127.0.0.1:8123")
    assert all(Batch.objects.values_list("count_first", flat=True))
    batches = Batch.objects.in_queue_order().values_list("name", "position", "total_profiles")
    assert list(batches) == [("Morning feeds", 1, 40), ("Press", 2, 90), ("Long tail", 3, 170)]
    assert Profile.objects.count() == 300
    assert {urlsplit(url).port for url in Profile.objects.values_list("url", flat=True)} == {feed_port}
    assert demo_port() == feed_port
    assert "http://127.0.0.1:8123/admin/" in output
    assert client.login(username="operator", password=password_in(output))
    before = everything(), list(User.objects.values())
    assert set_up() == ""
    assert (everything(), list(User.objects.values())) == before
    assert User.objects.get().is_superuser
    User.objects.all().delete()
    assert password_in(set_up()) != password_in(output)


@pytest.mark.django_db
def test_an_installation_with_an_account_or_a_batch_gets_no_demo(set_up):
    User.objects.create_user("ada", password="secret")
    addresses = ["http://127.0.0.1:3000/feed", "https://example.com:8443/batches-demo/rss/1"]
    assert BatchManager().create_batch("Mine", addresses)
    assert set_up() == ""
    assert (User.objects.get().username, Batch.objects.get().name) == ("ada", "Mine")
    assert demo_port() is None
    serve = Serve(stdout=StringIO())
    assert not serve.set_up_demo("http://127.0.0.1:8000")
    assert f"To see it: DATA_DIR=demo {start_command()}" in serve.stdout.getvalue()


@pytest.mark.django_db
def test_a_deleted_demo_queue_does_not_come_back_and_its_profiles_keep_their_port(set_up, feed_port):
    set_up()
    for batch in Batch.objects.all():
        assert BatchManager().delete_batch(batch.pk)
    assert BatchManager().create_batch("Mine", ["http://example.com/feed"])
    set_up(feed_port + 1)
    assert Batch.objects.get().name == "Mine"
    assert demo_port() == feed_port


def test_most_profiles_are_ordinary_feeds_and_each_has_its_own_name_and_number():
    profiles = [profile for batch in demo.BATCHES for profile in demo.profiles_of(batch, 8089)]
    addresses = [profile.url.rpartition("/batches-demo/")[2].split("/") for profile in profiles]
    kinds = Counter(kind for kind, _ in addresses)
    assert len({profile.name for profile in profiles}) == len({number for _, number in addresses}) == 300
    assert kinds["rss"] + kinds["atom"] == 213
    seconds = sum(delay(kind, int(number)) for kind, number in addresses) / 2  # two requests at once
    assert 120 < seconds < 240
    slow, others = ([delay(kind, number) for number in range(300)] for kind in ("slow", "rss"))
    assert 0.3 <= min(others) < max(others) <= 1.5 <= min(slow) < max(slow) <= 3.0


# -- The feed server ---------------------------------------------------------------------------------------------------


@pytest.fixture
def clock():
    return SimpleNamespace(now=NOON)


@pytest.fixture
def visit(clock):
    """Requests these paths from a real server, one after the other."""

    def run(*paths, etag=""):
        with FeedServer(0, lambda: clock.now, pace=0) as server:
            base_url = f"http://{demo.HOST}:{server.server_port}{demo.PATH}"
            with Client(base_url=base_url, headers={"If-None-Match": etag}) as client:
                return [client.get(path) for path in paths]

    return run


def parsed(response):
    return fastfeedparser.parse(response.content).entries


@pytest.mark.parametrize("kind", ["rss", "atom", "slow"])
def test_a_feed_of_each_format_has_dated_stories_and_returns_304_while_it_is_unchanged(kind, visit):
    [response] = visit(f"{kind}/7")
    entries = parsed(response)
    assert (response.status_code, len({entry["id"] for entry in entries})) == (200, len(entries))
    assert 4 <= len(entries) <= 10
    assert all(entry["title"] and entry["published"] and entry["link"] for entry in entries)
    assert 500 < len(response.content) < 5000
    for etag, status in ((response.headers["ETag"], 304), ('"other"', 200)):
        assert visit(f"{kind}/7", etag=etag)[0].status_code == status


def test_ten_minutes_later_a_feed_has_a_new_story_but_a_minute_later_most_are_unchanged(visit, clock):
    [first] = visit("atom/7")
    clock.now += 600
    [second] = visit("atom/7", etag=first.headers["ETag"])
    assert parsed(second)[0]["id"] not in {entry["id"] for entry in parsed(first)}

    etags = [[DemoFeed(number, "", now).etag for number in range(300)] for now in (NOON, NOON + 60)]
    assert 0 < sum(before != after for before, after in zip(*etags, strict=True)) < 100


def test_a_page_declares_a_feed_and_a_story_has_a_page(visit):
    page, feed = visit("page/5", "rss/5")
    links = etree.HTML(page.content).xpath("//link[@rel='alternate'][@type='application/rss+xml']/@href")
    assert links == ["../rss/5"]
    story = parsed(feed)[0]
    [page] = visit(story["link"].partition(demo.PATH)[2])
    assert etree.HTML(page.content).findtext(".//h1") == story["title"]


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("moved/5", 301, "/batches-demo/rss/5"),
        ("loop/5", 302, "/batches-demo/loop/5"),
        ("missing/5", 404, None),
        ("rss/x", 404, None),
        ("error/5", 500, None),
    ],
)
def test_an_address_responds_with_the_status_of_its_kind(visit, path, status, location):
    [response] = visit(path)
    assert (response.status_code, response.headers.get("Location")) == (status, location)


def test_a_broken_document_is_broken_as_its_kind_says(visit):
    truncated, nonsense, charset = (response.content for response in visit("truncated/5", "nonsense/5", "charset/5"))
    with pytest.raises(etree.XMLSyntaxError):
        etree.fromstring(truncated)
    assert feedparser.parse(truncated).entries
    assert not feedparser.parse(nonsense).entries
    assert b'encoding="utf-8"' in charset
    with pytest.raises(UnicodeDecodeError):
        charset.decode("utf-8")


def test_a_client_that_breaks_off_leaves_no_traceback(capfd):
    ended = Event()

    class Watched(FeedServer):
        def shutdown_request(self, request):
            super().shutdown_request(request)
            ended.set()

    with Watched(0, pace=0) as server:
        with socket.create_connection((demo.HOST, server.server_port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets it
        assert ended.wait(60)
    assert capfd.readouterr().err == ""

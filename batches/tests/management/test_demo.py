"""The demo: what `manage.py demo` sets up, and how its feed server answers."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from io import StringIO
from urllib.parse import urlsplit
from urllib.request import urlopen

import fastfeedparser
import feedparser
import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from lxml import etree

from batches.batch_manager import BatchManager
from batches.demo import feeds, server
from batches.demo import profiles as demo
from batches.management.preflight import demo_port
from batches.models import Batch, BatchLog, Profile

NOON = 1_800_000_000.0
FEED_KINDS = ["rss", "atom", "rdf", "json", "slow"]


@pytest.fixture
def feed_port():
    with socket.create_server((demo.HOST, 0)) as listener:
        return listener.getsockname()[1]


def run_demo(feed_port, **options):
    out = StringIO()
    call_command("demo", feed_port=feed_port, stdout=out, **options)
    return out.getvalue()


# -- The set-up --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_first_run_makes_three_batches_in_the_order_of_their_priorities(feed_port):
    run_demo(feed_port)
    batches = Batch.objects.in_queue_order().values_list("name", "position", "total_profiles")
    assert list(batches) == [("Morning feeds", 1, 40), ("Press", 2, 90), ("Long tail", 3, 170)]
    assert Profile.objects.count() == 300
    assert {urlsplit(url).port for url in Profile.objects.values_list("url", flat=True)} == {feed_port}
    assert demo_port() == feed_port


@pytest.mark.django_db
def test_the_first_run_shows_a_login_that_works(feed_port, client):
    shown = run_demo(feed_port, site="http://127.0.0.1:8123")
    assert "http://127.0.0.1:8123/admin/" in shown
    assert client.login(username="operator", password=password_in(shown))
    assert User.objects.get().is_superuser


def password_in(shown):
    return shown.partition("Password   ")[2].split()[0]


@pytest.mark.django_db
def test_a_second_run_changes_and_says_nothing(feed_port):
    run_demo(feed_port)
    before = list(User.objects.values()), list(Batch.objects.values()), BatchLog.objects.count()
    assert run_demo(feed_port) == ""
    assert (list(User.objects.values()), list(Batch.objects.values()), BatchLog.objects.count()) == before


@pytest.mark.django_db
def test_each_installation_gets_a_password_of_its_own(feed_port):
    first = password_in(run_demo(feed_port))
    User.objects.all().delete()
    assert password_in(run_demo(feed_port)) != first


@pytest.mark.django_db
def test_where_there_is_an_account_none_is_made(feed_port):
    User.objects.create_user("ada", password="secret")
    assert "Password" not in run_demo(feed_port)
    assert User.objects.get().username == "ada"


@pytest.mark.django_db
def test_where_there_is_a_batch_no_demo_queue_is_made(feed_port):
    addresses = ["http://127.0.0.1:3000/feed", "https://example.com:8443/batches-demo/rss/1"]
    assert BatchManager().create_batch("Mine", addresses)
    run_demo(feed_port)
    assert Batch.objects.get().name == "Mine"
    assert demo_port() is None


@pytest.mark.django_db
def test_a_deleted_demo_queue_stays_away_and_its_profiles_keep_their_port(feed_port):
    run_demo(feed_port)
    for batch in Batch.objects.all():
        assert BatchManager().delete_batch(batch.pk)
    assert BatchManager().create_batch("Mine", ["http://example.com/feed"])
    run_demo(feed_port + 1)
    assert Batch.objects.get().name == "Mine"
    assert demo_port() == feed_port


@pytest.mark.django_db
def test_no_demo_queue_is_made_for_a_port_in_use():
    with socket.create_server((demo.HOST, 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(CommandError, match=rf"Port {port} is in use\. .*DEMO_PORT={port + 1} make run"):
            run_demo(port)
    assert not Batch.objects.exists()


def test_the_profiles_have_names_and_numbers_of_their_own_and_most_are_ordinary_feeds():
    profiles = [profile for batch in demo.BATCHES for profile in demo.profiles_of(batch, 8089)]
    kinds = Counter(profile.url.split("/")[-2] for profile in profiles)
    assert len({profile.name for profile in profiles}) == len({number(profile) for profile in profiles}) == 300
    assert sum(kinds[kind] for kind in ("rss", "atom", "rdf", "json")) == 210


def test_the_three_batches_take_a_few_minutes_at_two_requests_at_once():
    profiles = [profile for batch in demo.BATCHES for profile in demo.profiles_of(batch, 8089)]
    seconds = sum(server.delay(profile.url.split("/")[-2], number(profile)) for profile in profiles) / 2
    assert 120 < seconds < 240


def number(profile):
    return int(profile.url.rpartition("/")[2])


# -- The feed server ---------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def visit(clock):
    """Runs `visitor(get)` against a real server; `get(path, **options)` gives an aiohttp response."""

    def run(visitor):
        return asyncio.run(visiting(visitor))

    async def visiting(visitor):
        app = server.FeedServer(clock, pace=0).app()
        async with TestServer(app) as running, ClientSession() as session:

            async def get(path, **options):
                return await session.get(running.make_url(demo.PATH + path), allow_redirects=False, **options)

            return await visitor(get)

    return run


@pytest.fixture
def fetch(visit):
    """One GET, with its body read."""

    def run(path, **options):
        async def visitor(get):
            response = await get(path, **options)
            return response, await response.read()

        return visit(visitor)

    return run


@pytest.mark.parametrize("kind", FEED_KINDS)
def test_a_feed_of_each_format_has_four_to_ten_dated_stories(kind, fetch):
    response, body = fetch(f"{kind}/7")
    parsed = fastfeedparser.parse(body)
    assert (response.status, len({entry["id"] for entry in parsed.entries})) == (200, len(parsed.entries))
    assert 4 <= len(parsed.entries) <= 10
    assert all(entry["title"] and entry["published"] and entry["link"] for entry in parsed.entries)
    assert 500 < len(body) < 5000


@pytest.mark.parametrize("kind", FEED_KINDS)
def test_a_feed_that_has_not_changed_answers_304(kind, fetch):
    response, _ = fetch(f"{kind}/7")
    assert fetch(f"{kind}/7", headers={"If-None-Match": response.headers["ETag"]})[0].status == 304
    assert fetch(f"{kind}/7", headers={"If-Modified-Since": response.headers["Last-Modified"]})[0].status == 304


def test_an_unknown_etag_overrules_a_date_that_would_fit(fetch):
    response, _ = fetch("rss/7")
    headers = {"If-None-Match": '"other"', "If-Modified-Since": response.headers["Last-Modified"]}
    assert fetch("rss/7", headers=headers)[0].status == 200


def test_ten_minutes_later_there_is_a_new_story_and_a_minute_later_most_feeds_are_the_same(fetch, clock):
    first, body = fetch("atom/7")
    known = {entry["id"] for entry in fastfeedparser.parse(body).entries}
    clock.now += 600
    second, body = fetch("atom/7", headers={"If-None-Match": first.headers["ETag"]})
    assert second.status == 200
    newest = fastfeedparser.parse(body).entries[0]["id"]
    assert newest not in known

    etags = [[feeds.DemoFeed(number, "", now).etag for number in range(300)] for now in (NOON, NOON + 60)]
    assert 0 < sum(before != after for before, after in zip(*etags, strict=True)) < 100


def test_an_address_shows_the_same_whenever_the_server_was_started_and_each_number_shows_its_own():
    again, first, other = (feeds.DemoFeed(number, "http://demo", NOON).json() for number in (9, 9, 8))
    assert again == first != other


def test_a_page_declares_a_feed_that_answers(visit):
    async def visitor(get):
        page = etree.HTML(await (await get("page/5")).text())
        href = page.xpath("//link[@rel='alternate'][@type='application/rss+xml']/@href")[0]
        return href, (await get(href.removeprefix("../"))).status

    assert visit(visitor) == ("../rss/5", 200)


def test_a_story_has_a_page(visit):
    async def visitor(get):
        story = fastfeedparser.parse(await (await get("rss/7")).read()).entries[0]
        page = await (await get(story["link"].partition(demo.PATH)[2])).text()
        return story["title"], etree.HTML(page).findtext(".//h1")

    title, heading = visit(visitor)
    assert title == heading


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("moved/5", 301, "/batches-demo/rss/5"),
        ("loop/5", 302, "/batches-demo/loop/5"),
        ("missing/5", 404, None),
        ("nonexistent/5", 404, None),
        ("rss/x", 404, None),
        ("error/5", 500, None),
    ],
)
def test_an_address_answers_with_the_status_that_its_kind_says(path, status, location, fetch):
    response, _ = fetch(path)
    assert (response.status, response.headers.get("Location")) == (status, location)


def test_a_busy_server_asks_to_wait_a_second_and_then_answers(visit):
    async def visitor(get):
        first, second, other = await get("busy/5"), await get("busy/5"), await get("busy/6")
        return first.status, first.headers["Retry-After"], second.status, other.status

    assert visit(visitor) == (429, "1", 200, 429)


def test_a_broken_document_is_broken_in_the_way_that_its_kind_says(fetch):
    with pytest.raises(etree.XMLSyntaxError):
        etree.fromstring(fetch("truncated/5")[1])
    assert feedparser.parse(fetch("truncated/5")[1]).entries
    assert not feedparser.parse(fetch("nonsense/5")[1]).entries
    charset = fetch("charset/5")[1]
    assert b'encoding="utf-8"' in charset
    with pytest.raises(UnicodeDecodeError):
        charset.decode("utf-8")


def test_an_endless_feed_goes_on_until_the_asker_leaves_and_then_the_server_answers_others(visit):
    async def visitor(get):
        response = await get("endless/5")
        size = 0
        while size < 6_000_000:
            size += len(await response.content.readany())
        response.close()
        return (await get("rss/5")).status

    assert visit(visitor) == 200


def test_slow_feeds_wait_longer_than_any_other():
    slow = [server.delay("slow", number) for number in range(300)]
    others = [server.delay("rss", number) for number in range(300)]
    assert 0.3 <= min(others) < max(others) <= 1.5 <= min(slow) < max(slow) <= 3.0


# -- The server as a process -------------------------------------------------------------------------------------------


@pytest.mark.databases("sqlite")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_feed_server_answers_until_it_is_told_to_end(number, feed_port, database_url):
    environ = os.environ | {"DATABASE_URL": database_url, "DEMO_PORT": str(feed_port)}
    command = [sys.executable, "-u", str(settings.BASE_DIR / "manage.py"), "demo", "--serve"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert f":{feed_port}{demo.PATH}" in process.stdout.readline()
            with urlopen(f"http://{demo.HOST}:{feed_port}{demo.PATH}rss/5") as response:
                assert response.status == 200
        finally:
            process.send_signal(number)
        assert process.wait(60) == 0

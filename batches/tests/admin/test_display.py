"""How the admin shows times, numbers and names."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.template import Context, Template
from django.utils import timezone, translation

import batches
from batches.admin import display
from batches.limits import MAX_DAYS, MAX_ERROR

from .conftest import LIST, SCRIPT

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
def noon_in_kathmandu(monkeypatch):
    monkeypatch.setattr(timezone, "now", lambda: NOON)
    with timezone.override("Asia/Kathmandu"):
        yield


def show(template, **values):
    return Template("{% load batches_display %}" + template).render(Context(values))


@pytest.mark.parametrize(
    ("name", "hours", "shown"),
    [
        ("moment", 0, "17:45"),
        ("moment", -12, "05:45"),
        ("moment", 12, "2026-11-30 05:45"),
        ("moment", -18, "2026-11-28 23:45"),
        ("exact", 0, "17:45:00"),
        ("exact", -18, "2026-11-28 23:45:00"),
    ],
)
def test_a_time_shows_its_date_unless_it_is_today_and_its_tooltip_shows_all(noon_in_kathmandu, name, hours, shown):
    time = NOON + timedelta(hours=hours)
    local = timezone.localtime(time)
    element = f'<time datetime="{local:%Y-%m-%dT%H:%M:%S}+05:45" title="{local:%Y-%m-%d %H:%M:%S} +0545">{shown}</time>'
    assert show("{{ time|" + name + " }}", time=time) == element
    assert display.clock(time, seconds=name == "exact") == shown


@pytest.mark.parametrize(
    ("seconds", "ago"),
    [
        (-7_200, "just now"),  # the clock was set back
        (59, "just now"),
        (60, "1 min ago"),
        (7_199, "119 min ago"),
        (7_200, "2 h ago"),
        (172_799, "47 h ago"),
        (172_800, "2 days ago"),
        (86_400_000, "1,000 days ago"),
    ],
)
def test_a_relative_time_has_one_unit(noon_in_kathmandu, seconds, ago):
    time = NOON - timedelta(seconds=seconds)
    assert f">{ago}</time>" in show("{{ time|relative }}", time=time)
    assert f">{ago}</time>" in show("{{ time|relative:now }}", time=time, now=NOON)


def test_a_time_that_is_missing_is_a_dash():
    assert show("{{ a|moment }}{{ a|exact }}{{ a|clock }}", a=None) == 3 * display.NOTHING


@pytest.mark.parametrize(
    ("zone", "head"),
    [
        ("UTC", "Times in UTC"),
        ("Asia/Kathmandu", "Times in Asia/Kathmandu (UTC+05:45)"),
        ("America/Phoenix", "Times in America/Phoenix (UTC-07:00)"),
    ],
)
def test_the_head_of_each_page_has_the_zone_of_its_times(client, settings, zone, head):
    settings.TIME_ZONE = zone
    timezone.get_default_timezone.cache_clear()
    assert client.get(LIST).content.decode().count(f"{head}.") == 1


def test_djangos_own_pages_show_times_in_the_same_way(client):
    User.objects.update(last_login=NOON, date_joined=NOON)
    page = client.get(f"/admin/auth/user/{User.objects.get().pk}/history/").content.decode()
    assert "Times in UTC." in page
    assert show("{{ time }}", time=NOON) == "2026-11-29 12:00"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "a few seconds"), (43, "about 40 s"), (95, "about 2 min"), (3600, "about 60 min"), (8000, "about 2 h")],
)
def test_an_estimate_is_rounded(seconds, text):
    assert display.roughly(seconds) == text


def test_templates_take_the_sizes_of_fields_from_the_limits():
    with translation.override("de"):
        assert show('{% limit "ERROR" %} {% limit "DAYS" %}') == f"{MAX_ERROR} {MAX_DAYS}"
    templates = [*Path(batches.__file__).parent.rglob("templates/**/*.html")]
    typed = {
        path.name: found for path in templates if (found := re.findall(r'\bmax(?:length)?="\d+"', path.read_text()))
    }
    assert len(templates) > 50
    assert typed == {}


def test_a_short_name_keeps_the_whole_name_and_is_escaped():
    escaped = "&lt;script&gt;alert(1)&lt;/script&gt;&quot;"
    assert (
        show("{{ name|short_name }}", name=f'{SCRIPT}"')
        == f'<span class="batch-short" title="{escaped}">{escaped}</span>'
    )

"""In German, people read their own numbers, while forms, links, drawings and scripts get plain ones."""

import re
from datetime import date, timedelta

import pytest
from django import forms
from django.apps import apps
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import override

from batches.admin import display
from batches.models import Batch, Profile, Queue

from .conftest import QUEUE, QUEUE_LIVE, client_as, document, page_of, text_of
from .test_queries import fill, pages

pytestmark = pytest.mark.django_db

DRAWN = {"x", "y", "x1", "x2", "y1", "y2", "width", "height"}
COUNTED = {"min", "max", "maxlength", "tabindex", "data-count", "data-position", "data-limit", "data-actions-icnt"}
ADDRESSES = {"href", "action", "formaction", "data-address", "data-live", "data-details"}
PLAIN = re.compile(r"-?\d+(\.\d+)?(%|rem)?")
GROUPED = re.compile(r"(?<![\w.])\d{1,3}(\.\d{3})+(?![\w.])")


@pytest.fixture
def client(german, settings):
    settings.USE_THOUSAND_SEPARATOR = True  # as another project may have it
    return client_as("superuser", headers={"accept-language": "de"})


def begin_ids_at_a_million():
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM sqlite_sequence")
        for model in apps.get_app_config("batches").get_models():
            cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, 1000000)", [model._meta.db_table])


def faults(page):
    """Numbers that a program would misread."""
    for element in page.iter("*"):
        is_number = element.tag == "progress" or element.get("type") in {"number", "hidden", "checkbox"}
        for name, value in element.items():
            if name in DRAWN | COUNTED or (element.tag == "progress" and name == "value"):
                is_fault = not PLAIN.fullmatch(value)
            else:
                is_fault = (name in ADDRESSES or (name == "value" and is_number)) and GROUPED.search(value)
            if is_fault:
                yield f"<{element.tag} {name}={value!r}>"


def test_only_people_get_numbers_with_separators(client):
    begin_ids_at_a_million()
    batch = fill(2)
    counters = {"total_profiles": 50_000, "completed_profiles": 20_000, "successful_checks": 20_000, "failed_checks": 0}
    Batch.objects.filter(status="running").update(**counters)
    Batch.objects.filter(status="done").update(completed_at=timezone.now() - timedelta(days=2))
    Queue.objects.update(version=1_000_000)
    profile = Profile.objects.latest("pk")
    assert profile.pk > 1_000_000
    old = f"{reverse('admin:batches_batch_old')}?days=1"
    found = {url: list(faults(document(client.get(url)))) for url in [*pages(batch), page_of(profile), old]}
    assert {url: each for url, each in found.items() if each} == {}
    assert "<dd>20.002</dd>" in text_of(client.get(QUEUE_LIVE))


@pytest.mark.parametrize("url", [QUEUE, QUEUE_LIVE, reverse("admin:batches_batch_dashboard_live")])
def test_a_page_and_its_fetched_parts_are_in_the_language_of_the_reader(client, url):
    response = client.get(url)
    assert response.headers["Content-Language"] == "de"
    assert "Accept-Language" in response.headers["Vary"]


def test_a_page_declares_its_language(client):
    assert document(client.get(QUEUE)).get("lang") == "de"


@pytest.mark.parametrize(
    ("function", "value", "english", "german"),
    [
        ("number", 1_234_567, "1,234,567", "1.234.567"),
        ("signed", 1_234, "+1,234", "+1.234"),
        ("signed", -1_234, "−1,234", "−1.234"),
        ("seconds", 1.256, "1.26 s", "1,26 s"),
        ("seconds", 1_234.4, "1,234 s", "1.234 s"),
        ("percent", 0, "0 %", "0 %"),
        ("percent", 0.001, "0.1 %", "0,1 %"),
        ("percent", 99.999, "99.9 %", "99,9 %"),
        ("percent", 100, "100 %", "100 %"),
        ("rate", 3.14, "3.1/s", "3,1/s"),
        ("rate", 1_234, "1,234/s", "1.234/s"),
    ],
)
def test_numbers_are_written_as_in_the_language(function, value, english, german):
    write = getattr(display, function)
    with override("en"):
        assert write(value) == english
    with override("de"):
        assert write(value) == german


@pytest.mark.parametrize("text", ["2026-11-28", "28.11.2026"])
def test_a_field_reads_german_dates_too_and_shows_them_as_the_pages_do(text):
    class DayForm(forms.Form):
        day = forms.DateField()

    with override("de"):
        form = DayForm({"day": text}, initial={"day": date(2026, 11, 27)})
        assert form.is_valid()
        assert form.cleaned_data == {"day": date(2026, 11, 28)}
        assert 'value="2026-11-27"' in str(DayForm(initial=form.initial))

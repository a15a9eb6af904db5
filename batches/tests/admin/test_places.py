"""The lists and forms say where the reader is, explain themselves when they are empty, and separate thousands."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.utils.text import capfirst

from batches.models import BatchLog, Host, Profile
from batches.tests.support.factories import make_list

from .conftest import MODELS, address, batch_with, document, page_of, words

pytestmark = pytest.mark.django_db


def titles(page):
    return [words(element) for element in page.xpath("//head/title | //h1")]


@pytest.mark.parametrize("model", [*MODELS, User, Group], ids=lambda model: model.__name__)
def test_a_list_has_the_name_of_its_rows_as_title(client, model):
    name = capfirst(model._meta.verbose_name_plural)
    assert titles(document(client.get(address_of(model)))) == [f"{name} | Batches", name]


@pytest.mark.parametrize("model", [model for model in MODELS if model is not Host], ids=lambda model: model.__name__)
def test_an_empty_list_says_which_rows_will_appear(client, model):
    [empty] = document(client.get(address_of(model))).find_class("batch-empty")
    about = admin.site.get_model_admin(model).about
    assert about
    assert words(empty).startswith(f"No {model._meta.verbose_name_plural} yet. {about}")
    adding = f"{address_of(model).removesuffix('/')}/add/"
    has_link = adding in empty.xpath(".//a/@href")
    assert has_link == (client.get(adding).status_code == 200)


def test_a_search_without_a_match_can_be_removed(client):
    batch_with(name="the press")
    [empty] = document(client.get(address(batch_with(), "changelist"), {"q": "nothing"})).find_class("batch-empty")
    assert words(empty) == "No batches match. Remove the search and the filters"
    assert empty.xpath(".//a/@href") == ["?"]


def test_the_title_of_a_form_names_its_row_or_its_model(client):
    profile = Profile.objects.create(url="https://example.org/")
    assert titles(document(client.get(page_of(profile)))) == ["https://example.org/ | Batches", "https://example.org/"]
    line = BatchLog.objects.get(batch=batch_with())
    assert titles(document(client.get(page_of(line)))) == [f"{line} | Log entry | Batches", "Log entry"]
    user = User.objects.get()
    assert titles(document(client.get(f"/admin/auth/user/{user.pk}/change/")))[1] == "Change user"


def test_a_deletion_can_be_cancelled_without_a_script(client):
    for row in (batch_with(), make_list("a list")):
        [cancel] = document(client.get(page_of(row, "delete"))).find_class("cancel-link")
        assert cancel.get("href") == page_of(row)


def test_thousands_are_separated(client):
    Profile.objects.bulk_create(Profile(url=f"https://example.org/{number}") for number in range(1001))
    page = document(client.get(address(Profile, "changelist")))
    assert words(page.find_class("paginator")[0]).endswith(" 1,001 profiles")
    actions = words(page.find_class("actions")[0])
    assert "All 1,001 selected" in actions
    assert "Select all 1,001 profiles" in actions
    assert "1,001 results" in words(document(client.get(address(Profile, "changelist"), {"q": "example"})))


def address_of(model):
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/"

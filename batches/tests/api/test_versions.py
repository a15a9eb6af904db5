"""Versions in the path."""

import pytest

from .calls import api_routes

pytestmark = pytest.mark.django_db


def test_every_call_is_there_with_the_version_and_without(client):
    routes = list(api_routes())
    assert routes
    assert all(routes.count(route) == 2 for route in routes)


@pytest.mark.parametrize("root", ["/api", "/api/v1"])
def test_addresses_in_answers_name_the_version_however_it_was_asked_for(client, root):
    answer = client.post(f"{root}/batches/", {"name": "new", "profiles": ["https://example.org/"]})
    batch = answer.json()["batch"]
    assert batch["url"] == answer["Location"] == f"http://testserver/api/v1/batches/{batch['id']}/"
    assert client.get(batch["url"]).json() == batch
    assert client.get(f"{root}/batches/").json()["results"] == [batch]
    assert client.get(f"{root}/queue/").json()["waiting"][0].items() >= batch.items()
    repeat = client.post(f"{root}/batches/{batch['id']}/repeat/")
    assert repeat["Location"].startswith("http://testserver/api/v1/batches/")


@pytest.mark.parametrize("root", ["/api", "/api/v1"])
def test_the_next_page_is_asked_for_as_the_first_one_was(client, make_batch, root):
    for _ in range(2):
        make_batch(profiles=0)
    following = client.get(f"{root}/batches/?page_size=1").json()["next"]
    assert following.startswith(f"http://testserver{root}/batches/?")
    assert len(client.get(following).json()["results"]) == 1


@pytest.mark.parametrize("path", ["v2/batches/", "v2/", "v2", "v0/batches/x/pause/", "v999999999/"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_version_that_does_not_exist_is_not_found_and_those_that_do_are_named(client, path, method):
    answer = getattr(client, method)(f"/api/{path}")
    assert answer.status_code == 404
    version = path.partition("/")[0]
    assert answer.json() == {"code": "not_found", "detail": f"The API has no version {version}. Use v1."}


@pytest.mark.parametrize("path", ["v1", "v1/", "v1/nonsense/", "v1/batches", "v1.5/", "v/", "v1x/batches/", "version/"])
def test_an_address_without_a_call_is_not_found_in_a_version_either(client, path):
    answer = client.get(f"/api/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "slash" in answer.json()["detail"]

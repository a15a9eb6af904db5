"""The API's description is complete, committed, served to everybody, and its examples work."""

import io
from datetime import timedelta
from itertools import count

import pytest
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.utils import timezone
from rest_framework.test import APIClient

from batches.batch_manager import BatchManager
from batches.models import Profile
from batches.tests.support.factories import subscribe

from .calls import api_routes
from .conftest import COMMITTED, validator

JSON = "application/json"

#: Every call can return these.
ALWAYS = {"400", "401", "403", "415", "429", "503"}

#: Calls that search the objects in their body.
NAMED_IN_THE_BODY = {"post /api/v1/feeds/", "post /api/v1/profiles/check/"}


def test_the_committed_description_is_current():
    generated = io.StringIO()
    options = {"custom_settings": "batches.api.docs.SETTINGS", "validate": True, "fail_on_warn": True}
    call_command("spectacular", **options, stdout=generated)
    assert generated.getvalue() == COMMITTED.read_text(), "docs/reference/openapi.yaml is stale. Run: make schema"


def test_each_call_has_a_text_and_all_its_responses(described):
    assert described["openapi"].startswith("3.1")
    assert 2 * len(list(calls(described))) == len(list(api_routes()))  # each exists without a version too
    summaries = [call["summary"] for _, _, call in calls(described)]
    assert len(set(summaries)) == len(summaries)
    for path, method, call in calls(described):
        name, responses = f"{method} {path}", call["responses"].keys()
        assert call["summary"], name
        assert "permission" in call["description"], name
        assert path.startswith("/api/v1/")
        assert call["tags"] == [path.split("/")[3]], name
        assert call["security"] == [{"tokenAuth": []}, {"cookieAuth": []}], name
        assert all(it.get("description") for it in call["parameters"] if it["in"] != "path")
        assert responses >= ALWAYS, name
        assert ("404" in responses) == ("{id}" in path or name in NAMED_IN_THE_BODY), name
        for status, response in call["responses"].items():
            if status >= "400":
                assert response["content"][JSON]["schema"] == {"$ref": "#/components/schemas/Error"}, name


def calls(described):
    for path, methods in described["paths"].items():
        for method, call in methods.items():
            yield path, method, call


# Examples


def list_of(name):
    return BatchManager().create_list(name, ["https://example.org/feed"])


def failed_for_an_example(make_batch):
    """A batch in which the profile of the examples has failed for their reason."""
    batch = make_batch("paused", failed=1)
    batch.profiles.filter(status="failed").update(profile=17, error="answered 404 Not Found")
    return batch


@pytest.mark.django_db
@pytest.mark.databases("sqlite")
def test_each_example_of_a_request_is_accepted(client, make_batch, a_list, described):
    batch, accepted, number = make_batch(), [], count()
    rests = {"failures": 3, "failing_since": timezone.now(), "rests_until": timezone.now() + timedelta(days=1)}
    Profile.objects.create(pk=17, url="https://example.org/17", **rests)
    for path, method, call in calls(described):
        for kind, content in call.get("requestBody", {"content": {}})["content"].items():
            for name, example in content.get("examples", {}).items():
                body = example["value"]
                if kind != JSON:
                    body = body | {"file": ContentFile(body["file"].encode(), "list.txt")}
                of = list_of(f"list {next(number)}") if "/lists/" in path else batch
                of = failed_for_an_example(make_batch) if path.endswith("/retry/") else of
                of = subscribe(list_of(f"list {next(number)}")) if "/subscriptions/{id}/" in path else of
                answer = getattr(client, method)(
                    path.format(id=of.pk), body, format="json" if kind == JSON else "multipart"
                )
                assert answer.status_code in {200, 201}, (name, answer.content)
                accepted.append(name)
                documented = call["responses"][str(answer.status_code)]["content"][JSON]["schema"]
                validator(described, documented).validate(answer.json())
    assert len(accepted) == 32


def test_each_example_of_a_response_has_the_described_shape(described):
    names = set()
    for path, method, call in calls(described):
        for status, response in call["responses"].items():
            for content in response.get("content", {}).values():
                for name, example in content.get("examples", {}).items():
                    problems = list(validator(described, content["schema"]).iter_errors(example["value"]))
                    assert not problems, f"{method} {path} {status} {name}: {problems[0].message}"
                    names.add((name, status))
    assert names >= {("Queued", "200"), ("Queued", "201"), ("Invalid", "400"), ("Finished", "409")}


# Served


YAML = ("application/vnd.oai.openapi", "application/yaml")


@pytest.mark.parametrize("root", ["/api", "/api/v1"])
@pytest.mark.parametrize("kind", [*YAML, JSON, "application/vnd.oai.openapi+json"])
def test_everybody_can_read_the_description(described, kind, root):
    answer = APIClient().get(f"{root}/schema/", headers={"Accept": "*/*" if kind == YAML[0] else kind})
    assert answer.status_code == 200
    assert answer["Content-Type"].partition(";")[0] == kind
    assert answer.content.decode() == COMMITTED.read_text() if kind in YAML else answer.json() == described

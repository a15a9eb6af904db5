"""The description of the API is whole, is the one that is committed, and is served to everybody."""

import io

import jsonschema
import pytest
import yaml
from django.conf import settings
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from batches.api import schema
from batches.models import Action
from batches.queue.actions import RULES

from .routes import api_routes

COMMITTED = settings.BASE_DIR / "docs" / "openapi.yaml"

#: What every call can answer, whoever asks for what.
ALWAYS = {"401", "403", "415", "429", "503"}


@pytest.fixture(scope="module")
def made():
    """The description as the command makes it, where a warning is an error."""
    text = io.StringIO()
    call_command("spectacular", validate=True, fail_on_warn=True, stdout=text)
    return text.getvalue()


@pytest.fixture(scope="module")
def described(made):
    return yaml.safe_load(made)


def test_the_committed_description_is_the_present_one(made):
    assert made == COMMITTED.read_text(), "docs/openapi.yaml is stale. Run: make schema"


def test_it_is_openapi_3_1_and_every_reference_in_it_leads_somewhere(described):
    assert described["openapi"].startswith("3.1")
    for reference in references(described):
        part = described
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]


def references(part):
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


def test_every_call_with_a_version_is_described_and_none_without(described):
    described_paths = {(path, method) for path, methods in described["paths"].items() for method in methods}
    assert all(path.startswith("/api/v1/") for path, _ in described_paths)
    assert 2 * len(described_paths) == len(list(api_routes()))  # each is there without a version as well


def test_each_call_says_what_it_does_what_it_needs_and_all_that_it_can_answer(described):
    for path, method, call in calls(described):
        name = f"{method} {path}"
        assert call["summary"], name
        assert call["tags"] == [path.split("/")[3]], name
        assert call["responses"].keys() >= ALWAYS, name
        assert ("404" in call["responses"]) == ("{id}" in path), name
        assert ("422" in call["responses"]) == (method == "post"), name
        assert ("413" in call["responses"]) == (method in {"post", "patch"}), name
        has_query = any(parameter.get("in") == "query" for parameter in call["parameters"])
        assert ("400" in call["responses"]) == (has_query or method in {"post", "patch"}), name
        assert ("304" in call["responses"]) == ({"$ref": "#/components/parameters/IfNoneMatch"} in call["parameters"])
        assert {"$ref": "#/components/parameters/IdempotencyKey"} in call["parameters"] or method != "post", name


def calls(described):
    for path, methods in described["paths"].items():
        for method, call in methods.items():
            yield path, method, call


def test_every_error_has_the_one_shape(described):
    for path, _, call in calls(described):
        for status, response in call["responses"].items():
            if "$ref" in response:
                response = described["components"]["responses"][response["$ref"].rpartition("/")[2]]
            if status >= "400":
                assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}, path


def test_a_refusal_names_the_codes_of_every_status_from_which_the_call_is_forbidden(described):
    start = described["paths"]["/api/v1/batches/{id}/start/"]["post"]["responses"]["409"]["description"]
    assert "`already_running`, `finished`, `another_running`, `queue_held`" in start
    assert "running" in RULES[Action.PAUSE_BATCH].allowed_from
    pause = described["paths"]["/api/v1/batches/{id}/pause/"]["post"]["responses"]["409"]["description"]
    assert pause.endswith("is one of `finished`.")
    assert "409" not in described["paths"]["/api/v1/batches/{id}/repeat/"]["post"]["responses"]


@pytest.mark.parametrize(
    ("component", "wrong"),
    [
        ("MoveRequest", {"position": 0}),
        ("MoveRequest", {"position": "1"}),
        ("MoveRequest", {"position": 1, "where": 1}),
        ("NothingRequest", {"anything": 1}),
        ("ChangeRequest", {"priority": 32768}),
        ("ChangeRequest", {"name": ""}),
        ("BatchJSONRequest", {"name": "Press"}),
        ("BatchJSONRequest", {"name": "Press", "profiles": []}),
        ("BatchJSONRequest", {"name": "Press", "profiles": [{"url": "https://example.org/", "colour": "red"}]}),
        ("BatchUploadRequest", {"name": "Press", "file": "", "format": "pdf"}),
        ("BulkRequest", {"action": "start", "ids": ["1"]}),
        ("BulkRequest", {"action": "queue", "ids": []}),
        ("BulkRequest", {"action": "queue", "filter": {"ordering": "name"}}),
    ],
)
def test_a_body_that_the_api_refuses_is_not_described_as_one_that_it_takes(described, component, wrong):
    shapes = {"components": described["components"], "$ref": f"#/components/schemas/{component}"}
    assert not jsonschema.Draft202012Validator(shapes).is_valid(wrong)


@pytest.mark.parametrize(("table", "name"), [("CALLS", "queue_hold"), ("PARAMETERS", "has_story")])
def test_what_nobody_has_described_is_an_error_that_says_where_to(table, name, monkeypatch, capsys):
    monkeypatch.delitem(getattr(schema, table), name)
    with pytest.raises(CommandError, match="warnings"):
        call_command("spectacular", fail_on_warn=True, stdout=io.StringIO())
    assert f"Say in {table}, in batches/api/schema.py, what" in capsys.readouterr().err


# -- Served ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/vnd.oai.openapi"),
        ("application/yaml", "application/yaml"),
        ("application/json", "application/json"),
        ("application/vnd.oai.openapi+json", "application/vnd.oai.openapi+json"),
    ],
)
@pytest.mark.parametrize("root", ["/api", "/api/v1"])
def test_everybody_is_told_how_to_ask(accept, kind, root, described):
    answer = APIClient().get(f"{root}/schema/", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer["Content-Type"].partition(";")[0] == kind
    assert yaml.safe_load(answer.content) == described


def test_the_page_asks_nobody_else_and_has_nothing_inline():
    page = APIClient().get("/api/docs/")
    assert page.status_code == 200
    text = page.content.decode()
    assert "https://" not in text
    assert "<style" not in text
    assert "<script>" not in text
    script = APIClient().get("/api/docs/?script=")
    assert script["Content-Type"].startswith("application/javascript")
    assert '"/api/v1/schema/"' in script.content.decode()


@pytest.mark.parametrize("path", ["/api/schema/", "/api/docs/", "/api/v1/docs/"])
def test_what_else_is_asked_of_the_description_gets_the_apis_own_error(path):
    refused = APIClient().post(path)
    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
    refused = APIClient().get(path, headers={"Accept": "image/png"})
    assert (refused.status_code, refused.json()["code"]) == (406, "not_acceptable")

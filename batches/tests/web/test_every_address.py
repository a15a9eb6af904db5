"""What holds for every address of admin and API, as the URL conf has them: a new one is tried as it comes."""

from html.parser import HTMLParser

import pytest
from django.conf import settings

from batches.tests.admin.conftest import client_as
from batches.tests.api.calls import OPEN
from batches.tests.browser.pages import make_rows
from batches.tests.support.tables import every_table
from batches.tests.support.urlconf import every_address
from batches.tests.test_production import POLICY

# None of it depends on the database.
pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db]

STATIC = sorted(path.name for path in (settings.BASE_DIR / "batches" / "static" / "batches").iterdir())
DOCUMENTATION = ["swagger-ui-bundle.js", "swagger-ui-standalone-preset.js", "swagger-ui.css", "favicon-32x32.png"]
SERVED = [f"/static/batches/{name}" for name in STATIC]
SERVED += [f"/static/drf_spectacular_sidecar/swagger-ui-dist/{name}" for name in DOCUMENTATION]


@pytest.fixture(autouse=True)
def nobody_counted(monkeypatch):
    monkeypatch.setattr("rest_framework.throttling.SimpleRateThrottle.allow_request", lambda *_: True)


class Inline(HTMLParser):
    """What the policy forbids within a page, and what it would let run on a click."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        runs = tag == "script" and "src" not in values and values.get("type") != "application/json"
        handlers = [name for name in values if name.startswith("on") or name == "style"]
        links = [value for name, value in attributes if (value or "").strip().lower().startswith("javascript:")]
        if runs or handlers or links or tag == "style":
            self.found.append(self.get_starttag_text())


@pytest.mark.parametrize(("role", "answered"), [("anonymous", {302, 401}), ("staff", {403}), ("superuser", {404})])
def test_every_answer_carries_the_policy_and_needs_no_exception_and_looking_changes_nothing(role, answered):
    rows, client = make_rows(), client_as(role)
    addresses, before = every_address(rows), every_table()
    statuses = set()
    for path in [*(address.path for address in addresses), "/api/docs/?script", "/nothing/", *SERVED]:
        for method in ("get", "head", "options") if role == "superuser" else ("get",):
            answer = getattr(client, method)(path)
            body = answer.getvalue()
            assert answer.headers["Content-Security-Policy"] == POLICY, (method, path)
            assert answer.status_code < 500, (method, path)
            if method == "get":
                statuses.add(answer.status_code)
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                assert Inline(body.decode()).found == [], (method, path)
    assert every_table() == before
    assert statuses >= {200, 302, *answered}


def test_what_the_policy_forbids_within_a_page_is_found():
    for harm in ("<script>x</script>", "<p style='x'>", "<style>", "<a href=' JavaScript:x'>", "<img src=x onerror=x>"):
        assert Inline(f"<p>{harm}").found, harm
    assert not Inline("<script src=x></script><script type='application/json'>1</script><a href='/x'>").found


def test_no_session_writes_without_the_token_of_the_form():
    rows, client = make_rows(), client_as("superuser", enforce_csrf_checks=True)
    addresses, before = every_address(rows), every_table()
    for address in addresses:
        for method in ("post", "put", "patch", "delete"):
            answer = getattr(client, method)(address.path)
            if issubclass(getattr(address.callback, "cls", object), OPEN):
                assert answer.status_code in {404, 405}, (method, address)
            else:
                assert answer.status_code == 403, (method, address)
                assert b"CSRF" in answer.content or b"security token is missing" in answer.content, (method, address)
    assert every_table() == before

"""The promises of every address of the URL conf: the policy, no inline code, no change by reading, CSRF checks."""

import lxml.html
import pytest
from django.conf import settings

from batches.api.base import OpenView
from batches.tests.admin.conftest import client_as
from batches.tests.browser.pages import make_rows
from batches.tests.support.tables import every_table
from batches.tests.support.urlconf import every_address
from batches.tests.test_production import POLICY

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db]

STATIC = sorted(path.name for path in (settings.BASE_DIR / "batches" / "static" / "batches").iterdir())
DOCUMENTATION = ["swagger-ui-bundle.js", "swagger-ui-standalone-preset.js", "swagger-ui.css", "favicon-32x32.png"]
SERVED = [f"/static/batches/{name}" for name in STATIC]
SERVED += [f"/static/drf_spectacular_sidecar/swagger-ui-dist/{name}" for name in DOCUMENTATION]

#: Scripts, styles and handlers within a page, and links that run scripts.
INLINE = """
    //script[not(@src) and not(@type = "application/json")] | //style | //@style | //@*[starts-with(name(), "on")] |
    //@*[starts-with(normalize-space(), "javascript:")]
"""


@pytest.fixture(autouse=True)
def unlimited_requests(monkeypatch):
    monkeypatch.setattr("rest_framework.throttling.SimpleRateThrottle.allow_request", lambda *_: True)


#: In `make test` the other methods take turns.
steps = pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.exhaustive)])


@pytest.mark.slow
@steps
@pytest.mark.parametrize(
    ("role", "statuses", "others"),
    [("anonymous", {302, 401}, []), ("staff", {403}, []), ("superuser", {404}, ["head", "options"])],
)
def test_every_response_has_the_policy_and_no_inline_code_and_reading_changes_nothing(role, statuses, others, step):
    rows, client = make_rows(), client_as(role)
    addresses, before = every_address(rows), every_table()
    seen = set()
    paths = [*(address.path for address in addresses), "/api/docs/?script", "/nothing/", *SERVED]
    for number, path in enumerate(paths):
        for method in ("get", *others[number % step :: step]):
            response = getattr(client, method)(path)
            body = response.getvalue()
            assert response.headers["Content-Security-Policy"] == POLICY, (method, path)
            assert response.status_code < 500, (method, path)
            if method == "get":
                seen.add(response.status_code)
            if body and response.headers.get("Content-Type", "").startswith("text/html"):
                assert lxml.html.fromstring(body.decode()).xpath(INLINE) == [], (method, path)
    assert every_table() == before
    assert seen >= {200, 302, *statuses}


@pytest.mark.slow
@steps
def test_a_session_changes_nothing_without_the_csrf_token(step):
    rows, client = make_rows(), client_as("superuser", enforce_csrf_checks=True)
    addresses, before = every_address(rows), every_table()
    for number, address in enumerate(addresses):
        for method in ("post", *["put", "patch", "delete"][number % step :: step]):
            response = getattr(client, method)(address.path)
            if issubclass(getattr(address.callback, "cls", object), OpenView):
                assert response.status_code in {404, 405}, (method, address)
            else:
                assert response.status_code == 403, (method, address)
                assert any(text in response.content for text in (b"CSRF", b"token is missing")), (method, address)
    assert every_table() == before


def test_no_page_and_no_call_runs_in_the_transaction_of_a_project_with_atomic_requests():
    routes = [
        address for address in every_address(make_rows()) if address.route.startswith(("/admin/batches/", "/api/"))
    ]
    atomic = {str(address) for address in routes if not hasattr(address.callback, "_non_atomic_requests")}
    assert atomic == {"/api/"}  # the root, which has no data

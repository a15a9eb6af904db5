"""The protection of an installation: response headers, sessions, settings for production, the secret key."""

import os
import secrets
import shlex
from functools import partial

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key
from django.db import OperationalError
from django.test import Client
from django.urls import path, reverse

from batches.tests.admin.conftest import client_as
from batches.tests.support.processes import run_python
from batchproject import urls as project
from batchproject.secret_key import GENERATE_KEY, is_weak, load_secret_key, read_or_generate_key

POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
ENVIRONMENT = settings.BASE_DIR / "deploy" / "batches.env"
#: As in that file.
PRODUCTION = {
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": "batches.example.org",
    "HTTPS": "on",
    "HSTS_SECONDS": "3600",
}


def fail(request=None):
    raise ArithmeticError


def lose_database(request):
    raise OperationalError


handler400, handler500 = project.handler400, project.handler500
urlpatterns = [*project.urlpatterns, path("fault/", fail), path("away/", lose_database)]


@pytest.fixture
def client(settings):
    settings.ROOT_URLCONF = __name__
    return Client(enforce_csrf_checks=True, raise_request_exception=False)


@pytest.mark.django_db
@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    ("method", "address", "status", "advice"),
    [
        ("get", "/", 302, ""),
        ("get", "/admin/login/", 200, ""),
        ("post", "/admin/login/", 403, "reload the page and try again"),
        ("get", "/nothing/", 404, "This page does not exist"),
        ("get", "/api/batches/", 401, ""),
        ("get", "/static/batches/queue.js", 200, ""),
        ("get", "/fault/", 500, "look at its page before you repeat the change"),
        ("get", "/away/", 503, ""),
    ],
)
def test_every_response_has_the_security_headers_and_an_error_page_says_what_to_do(
    client, method, address, status, advice
):
    response = getattr(client, method)(address)
    content = response.getvalue().decode()  # a file is closed when it was read
    assert response.status_code == status
    if advice:
        assert advice in content
        assert f'href="{reverse("admin:index")}"' in content
    assert response.headers["Content-Security-Policy"] == POLICY
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "same-origin"
    assert address.startswith("/static/") or response.headers["X-Frame-Options"] == "DENY"


def test_a_request_for_a_foreign_host_is_refused_with_the_policy(client):
    response = client.get("/admin/login/", headers={"host": "evil.example.org"})
    assert (response.status_code, response.headers["Content-Security-Policy"]) == (400, POLICY)
    assert "ALLOWED_HOSTS" in response.content.decode()


def test_a_fault_is_named_by_the_id_of_its_request_and_shows_nothing_of_itself(client, caplog, german):
    response = client.get("/fault/", headers={"Accept-Language": "de", "X-Request-ID": "a-1"})
    page = response.content.decode()
    assert '<html lang="de"' in page
    assert "<code>a-1</code>" in page
    assert "Arithmetic" not in page
    assert caplog.messages == ["GET /fault/: server error in request a-1", "Internal Server Error: /fault/"]


@pytest.mark.django_db
def test_a_fault_of_the_api_is_json(client, monkeypatch):
    monkeypatch.setattr("batches.api.views.forecast_queue", fail)
    response = client_as("superuser", raise_request_exception=False).get("/api/v1/queue/")
    assert (response.status_code, response.json()["code"]) == (500, "server_error")
    assert response["X-Request-ID"] in response.json()["detail"]


def test_djangos_debug_pages_keep_their_styles(client, settings):
    settings.DEBUG = True
    assert "Content-Security-Policy" not in client.get("/nothing/").headers
    assert "Content-Security-Policy" not in client.get("/fault/").headers
    assert "Content-Security-Policy" in client.get("/favicon.ico").headers


def test_browsers_find_the_icon_at_its_usual_address(client):
    response = client.get("/favicon.ico", follow=True)
    assert response.getvalue().startswith(b"<svg")
    assert response.redirect_chain == [("/static/batches/icon.svg", 302)]
    assert response.headers["Content-Type"] == "image/svg+xml"


@pytest.mark.django_db
def test_a_cookie_that_cannot_be_a_session_key_is_ignored(client):
    # A browser's "\000" in quotes is NUL. Newer versions of Python let the client of a test store none.
    headers = {"cookie": f'{settings.SESSION_COOKIE_NAME}="' + r"\000" * 32 + '"'}
    answer = client.get("/admin/", follow=True, headers=headers)
    assert answer.redirect_chain == [("/admin/login/?next=/admin/", 302)]
    assert client.get("/api/batches/", headers=headers).status_code == 401


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"HTTPS": ""}, "security.W0"),
        ({"HSTS_SECONDS": ""}, "security.W0"),
        ({"HSTS_SECONDS": "a year"}, "HSTS_SECONDS='a year' is not a valid number. Use a whole number"),
    ],
)
def test_djangos_deployment_check_passes_with_the_documented_settings_only(changes, message):
    checked = run_python("manage.py", "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION | changes)
    assert checked.returncode == (1 if changes else 0), checked
    assert message in checked.stderr


def test_each_installation_generates_its_own_key_that_only_its_owner_can_read(tmp_path):
    keys = [read_or_generate_key(tmp_path / name / "secret_key") for name in ("one", "one", "two")]
    assert keys[0] == keys[1] != keys[2]
    assert (tmp_path / "one" / "secret_key").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "one") == ["secret_key"]


def test_processes_that_start_at_the_same_time_use_the_same_key(tmp_path, monkeypatch):
    path = tmp_path / "secret_key"

    def lose(source, target):
        path.write_text("the key of the first process")
        raise FileExistsError

    monkeypatch.setattr("os.link", lose)
    assert read_or_generate_key(path) == "the key of the first process"


def test_without_a_place_for_the_key_it_refuses_to_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ImproperlyConfigured, match="Set the environment variable SECRET_KEY"):
        read_or_generate_key(tmp_path / "file" / "secret_key")


RANDOM = "j6#kd0w!vq2m_t8szx4bn7ry1clf5hgp9uaexori3kwtbnmqx7"


@pytest.mark.parametrize(
    "key", ["", "changeme", RANDOM[:49], f"django-insecure-{RANDOM}", "abcd" + "a" * 60, "changeme" * 9]
)
def test_a_weak_key_is_recognised(key):
    assert is_weak(key)


def test_a_random_key_is_strong_in_any_alphabet():
    assert not is_weak(RANDOM)
    for generate in (get_random_secret_key, partial(secrets.token_hex, 25), partial(secrets.token_urlsafe, 38)):
        assert not any(is_weak(generate()) for _ in range(100))


@pytest.mark.parametrize("start", [("manage.py", "serve"), ("manage.py", "check"), ("-c", "import batchproject.wsgi")])
def test_with_a_weak_key_nothing_starts_and_the_message_says_what_to_do(start):
    started = run_python(*start, SECRET_KEY="changeme", DEBUG="")
    assert started.returncode == 1
    assert f"SECRET_KEY is too easy to guess. Set it to the output of: {GENERATE_KEY}" in started.stderr
    assert start[0] == "-c" or "Traceback" not in started.stderr


def test_the_documented_command_generates_a_strong_key():
    [key] = run_python(*shlex.split(GENERATE_KEY)[1:]).stdout.split()
    assert not is_weak(key)
    assert GENERATE_KEY in ENVIRONMENT.read_text()


def test_a_weak_stored_key_is_refused_too_but_in_debug_mode(tmp_path):
    (tmp_path / "key").write_text("\n")
    with pytest.raises(ImproperlyConfigured, match=r"too easy to guess\. Delete the file"):
        load_secret_key("", tmp_path / "key", allow_weak=False)
    assert run_python("manage.py", "check", SECRET_KEY="secret", DEBUG="on").returncode == 0

"""What protects an installation: the headers of every answer, the settings for production, the secret key, sessions."""

import os
import re
import secrets
import shlex
import subprocess
import sys
from functools import partial

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key
from django.db import OperationalError
from django.http import HttpResponse
from django.test import Client
from django.urls import path, reverse

from batchproject.csp import content_security_policy
from batchproject.secret_key import MAKE_ONE, installation_secret_key, secret_key, weakness
from batchproject.urls import urlpatterns as project_urls

POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
#: As the README has them.
PRODUCTION = {
    "SECRET_KEY": secrets.token_urlsafe(50),
    "ALLOWED_HOSTS": "batches.example.org",
    "HTTPS": "on",
    "HSTS_SECONDS": "31536000",
}


def fault(request):
    raise ArithmeticError


def away(request):
    raise OperationalError


urlpatterns = [*project_urls, path("fault/", fault), path("away/", away)]


@pytest.fixture
def client(settings):
    settings.ROOT_URLCONF = __name__
    settings.WHITENOISE_AUTOREFRESH = True
    return Client(enforce_csrf_checks=True, raise_request_exception=False)


# Headers


@pytest.mark.django_db
@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    ("method", "address", "status"),
    [
        ("get", "/", 302),
        ("get", "/favicon.ico", 302),
        ("get", "/admin/", 302),
        ("get", "/admin/login/", 200),
        ("post", "/admin/login/", 403),
        ("get", "/nothing/", 404),
        ("get", "/api/batches/", 401),
        ("get", "/api/nothing/", 404),
        ("get", "/static/batches/queue.js", 200),
        ("get", "/fault/", 500),
        ("get", "/away/", 503),
    ],
)
def test_every_answer_carries_the_one_policy_and_the_headers_that_django_has_for_safety(
    client, method, address, status
):
    response = getattr(client, method)(address)
    response.getvalue()  # a file is closed when it was read
    assert response.status_code == status
    assert response.headers["Content-Security-Policy"] == POLICY
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "same-origin"
    assert address.startswith("/static/") or response.headers["X-Frame-Options"] == "DENY"


def test_a_request_for_a_host_that_is_not_ours_is_refused_under_the_policy(client):
    response = client.get("/admin/login/", headers={"host": "evil.example.org"})
    assert (response.status_code, response.headers["Content-Security-Policy"]) == (400, POLICY)


def test_a_view_may_have_a_policy_of_its_own(rf):
    own = content_security_policy(lambda request: HttpResponse(headers={"Content-Security-Policy": "sandbox"}))
    assert own(rf.get("/")).headers["Content-Security-Policy"] == "sandbox"


def test_djangos_pages_for_developers_keep_their_styles(client, settings):
    settings.DEBUG = True
    assert "Content-Security-Policy" not in client.get("/nothing/").headers
    assert "Content-Security-Policy" not in client.get("/fault/").headers
    assert "Content-Security-Policy" in client.get("/favicon.ico").headers


@pytest.mark.parametrize(
    ("method", "address", "words"),
    [("get", "/nothing/", "There is nothing at this address"), ("post", "/admin/login/", "Nothing was done")],
)
def test_pages_of_refusal_say_what_to_do_and_lead_on(client, method, address, words):
    html = getattr(client, method)(address).content.decode()
    assert words in html
    assert f'href="{reverse("admin:index")}"' in html
    assert "<style" not in html


def test_the_icon_is_found_where_browsers_look_for_it(client):
    response = client.get("/favicon.ico", follow=True)
    assert response.getvalue().startswith(b"<svg")
    assert response.redirect_chain == [("/static/batches/icon.svg", 302)]
    assert response.headers["Content-Type"] == "image/svg+xml"


# Sessions


@pytest.mark.django_db
def test_a_cookie_that_cannot_be_a_session_is_that_of_nobody(client):
    # What a browser sends as "\000" in quotes is NUL.
    client.cookies.load(f'{settings.SESSION_COOKIE_NAME}="' + r"\000" * 32 + '"')
    assert client.get("/admin/", follow=True).redirect_chain == [("/admin/login/?next=/admin/", 302)]
    assert client.get("/api/batches/").status_code == 401


# Settings for production


def check_deployment(environ):
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "check", "--deploy", "--fail-level", "WARNING"]
    return subprocess.run(command, env=os.environ | environ, capture_output=True, text=True)


def test_with_the_documented_settings_django_has_nothing_to_say_about_the_deployment():
    checked = check_deployment(PRODUCTION)
    assert (checked.returncode, checked.stdout) == (0, "System check identified no issues (0 silenced).\n"), checked


@pytest.mark.parametrize("name", ["HTTPS", "HSTS_SECONDS"])
def test_each_of_the_documented_settings_is_needed(name):
    checked = check_deployment(PRODUCTION | {name: ""})
    assert checked.returncode == 1
    assert "security.W0" in checked.stderr


def test_a_number_that_is_none_is_told_by_name():
    checked = check_deployment(PRODUCTION | {"HSTS_SECONDS": "a year"})
    assert checked.returncode == 1
    assert "HSTS_SECONDS='a year' is no whole number" in checked.stderr


def test_the_documented_settings_are_those_that_were_checked():
    section = re.search(r"## Production\n(.*?)\n## ", (settings.BASE_DIR / "README.md").read_text(), re.DOTALL)[1]
    assert set(re.findall(r"^    ([A-Z_]+)=", section, re.MULTILINE)) >= PRODUCTION.keys()


def test_no_secret_key_ships_with_the_code(tmp_path):
    """One is made for each installation, and kept where only its owner reads it."""
    keys = [installation_secret_key(tmp_path / name / "secret_key") for name in ("one", "one", "two")]
    assert keys[0] == keys[1] != keys[2]
    assert (tmp_path / "one" / "secret_key").stat().st_mode & 0o777 == 0o600


def test_where_no_key_can_be_kept_it_refuses_to_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ImproperlyConfigured, match="Set the environment variable SECRET_KEY"):
        installation_secret_key(tmp_path / "file" / "secret_key")


WEAK_KEYS = {
    "django-insecure-j6#kd0w!vq2m_t8szx4bn7ry1clf5hgp9uaexori3kwtbnmqez": "contains “django-insecure-”",
    "changeme" * 9: "contains “changeme”",
    "Change-Me-before-you-go-live-or-else-j6#kd0w!vq2m_t8szx4b": "contains “change-me”",
    "secret": "contains “secret”",
    "my super SECRET key that is really as long as it has to be": "contains “secret”",
    "j6#kd0w!vq2m_t8szx4bn7ry1clf5hgp9uaexori3kwtbnmqx": "too short: it has 49 of at least 50 characters",
    "50 or more random characters": "too short",
    " ": "too short",
    "1234567890" * 6: "a shorter one again and again",
    "abc" * 20 + "d": "only 4 different characters",
}


@pytest.mark.parametrize("key", WEAK_KEYS)
def test_a_weak_secret_key_is_told_from_a_random_one(key):
    assert WEAK_KEYS[key] in weakness(key)


def test_a_random_secret_key_is_strong_in_any_alphabet():
    for make in (get_random_secret_key, partial(secrets.token_hex, 25), partial(secrets.token_urlsafe, 38)):
        assert not any(weakness(make()) for _ in range(500))


@pytest.mark.parametrize("start", [("manage.py", "serve"), ("manage.py", "check"), ("-c", "import batchproject.wsgi")])
def test_with_a_weak_secret_key_nothing_starts_and_the_remedy_is_told(start):
    started = python(*start, SECRET_KEY="changeme", DEBUG="")
    assert started.returncode == 1
    assert "SECRET_KEY is no random text: it contains “changeme”" in started.stderr
    assert MAKE_ONE in started.stderr
    assert start[0] == "-c" or "Traceback" not in started.stderr


def test_the_remedy_makes_a_key_that_is_taken():
    [made] = python(*shlex.split(MAKE_ONE)[1:]).stdout.split()
    assert not weakness(made)
    assert MAKE_ONE in (settings.BASE_DIR / "README.md").read_text()


def test_for_trying_it_out_any_key_will_do(tmp_path):
    assert secret_key("secret", tmp_path / "none", may_be_weak=True) == "secret"
    assert python("manage.py", "check", SECRET_KEY="secret", DEBUG="on").returncode == 0


def test_a_weak_key_that_is_kept_is_refused_as_well(tmp_path):
    (tmp_path / "key").write_text("\n")
    with pytest.raises(ImproperlyConfigured, match=r"too short: it has 0 .* Delete that file"):
        secret_key("", tmp_path / "key", may_be_weak=False)


def python(*arguments, **environ):
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=settings.BASE_DIR, env=os.environ | environ, capture_output=True, text=True, timeout=60
    )

"""Signing in through an identity provider and with a second factor, with the files of the how-to, word for word."""

import base64
import hashlib
import json
import re
import sys
import time
from importlib.util import find_spec
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from django.utils.crypto import get_random_string
from playwright.sync_api import expect

from batches.tests.conftest import skip_or_fail
from batches.tests.support.documents import find_blocks, read_page
from batches.tests.support.feedserver import FeedServer, Reply
from batches.tests.support.ports import free_port
from batches.tests.support.processes import WAIT_SECONDS, Commands, all_in_one

pytestmark = pytest.mark.databases("sqlite")

ADA, EVE = "ada@example.org", "eve@example.org"
ADMIN = re.compile(r"http://[^/]+/admin/$")
PASSWORD = "a sentence that nobody guesses"
#: A real hash takes half a second on purpose, and a busy browser types a code when the next one is valid already.
QUICK_SETTINGS = """
from site_settings import *
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
MFA_TOTP_TOLERANCE = 10
"""
CREATE = f"""
from django.contrib.auth.models import User
User.objects.create_superuser("ada", "{ADA}", "{PASSWORD}")
User.objects.create_superuser("grace", "grace@example.org", "{PASSWORD}")
"""


class Provider:
    """A provider of OpenID Connect that signs everybody in as `email`."""

    def __init__(self, address):
        self.address = address
        self.email = ADA
        self.asked = {}  # the request of each code

    def answer(self, request):
        address = urlsplit(request.path)
        match address.path:
            case "/.well-known/openid-configuration":
                return as_json(self.configuration())
            case "/authorization_endpoint":
                return Reply(302, headers={"Location": self.authorize(dict(parse_qsl(address.query)))})
            case "/token_endpoint":
                return as_json(self.exchange(dict(parse_qsl(request.body.decode()))))
            case "/userinfo_endpoint":
                return as_json({"sub": self.email, "email": self.email, "email_verified": True})
        return Reply(404)

    def configuration(self):
        names = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")
        return {"issuer": self.address} | {name: f"{self.address}/{name}" for name in names}

    def authorize(self, asked):
        code = get_random_string(20)
        self.asked[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def exchange(self, given):
        asked = self.asked.pop(given["code"])
        challenge = base64.urlsafe_b64encode(hashlib.sha256(given["code_verifier"].encode()).digest())
        assert challenge.decode().rstrip("=") == asked["code_challenge"]
        assert (given["client_id"], given["client_secret"]) == ("batches", "hidden")
        return {"access_token": "token", "token_type": "Bearer", "id_token": self.make_id_token(asked)}

    def make_id_token(self, asked):
        import jwt

        claims = {"iss": self.address, "aud": "batches", "sub": self.email, "exp": time.time() + 60}
        return jwt.encode(claims | {"nonce": asked.get("nonce")}, "a key of 32 bytes, for a signature", "HS256")


def as_json(content):
    return Reply(body=json.dumps(content).encode(), headers={"Content-Type": "application/json"})


@pytest.fixture(scope="module")
def provider():
    with FeedServer() as server:
        provider = Provider(server.url(""))
        server.otherwise = provider.answer
        yield provider


@pytest.fixture(scope="module")
def site(provider, tmp_path_factory):
    """The address of the project with the files of the how-to."""
    if find_spec("allauth") is None:
        skip_or_fail("django-allauth is not installed: pip install -r requirements-allauth.txt")
    folder = tmp_path_factory.mktemp("sign-in")
    for block in find_blocks(read_page("how-to/sign-in.md"), "python"):
        name = re.match(r"# /etc/batches/(\w+\.py)\n", block.text)[1]
        (folder / name).write_text(block.text)
    (folder / "quick_settings.py").write_text(QUICK_SETTINGS)
    with Commands(f"sqlite:///{folder}/site.sqlite3") as commands:
        project = {"PYTHONPATH": str(folder), "DJANGO_SETTINGS_MODULE": "quick_settings"}
        client = {"OIDC_SERVER": provider.address, "OIDC_CLIENT_ID": "batches", "OIDC_SECRET": "hidden"}
        commands.environ = {
            **commands.environ,
            **project,
            **client,
            "BATCHES_LOGIN_RATE": "3/minute",
            "BATCHES_API_PROXIES": "1",
        }
        for arguments in (all_in_one("migrate -v0", "check --fail-level WARNING"), ["shell", "-v0", "-c", CREATE]):
            commands.run(*arguments)
        port = free_port()
        listen = (f"--listen=127.0.0.1:{port}", "--no-clear-untrusted-proxy-headers")
        application = "batchproject.wsgi:application"
        server = commands.start_program(sys.executable, "-m", "batches.web.server", *listen, application)
        server.wait_for(lambda: "Serving on" in server.err + server.out)
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def page(open_page, site):
    return open_page("/admin/", role="anonymous", server=site)


def sign_in_at_the_provider(page):
    page.get_by_role("link", name="Company account").click()
    page.get_by_role("button", name="Continue").click()


def sign_in_with_a_password(page):
    page.get_by_label("Username").fill("grace")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign In").click()


def test_somebody_with_an_account_signs_in_through_the_provider(page, provider):
    provider.email = ADA
    sign_in_at_the_provider(page)
    expect(page).to_have_url(ADMIN)


def test_a_password_is_followed_by_a_second_factor(page):
    sign_in_with_a_password(page)
    expect(page).to_have_url(ADMIN)
    page.goto("/accounts/2fa/totp/activate/")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    page.get_by_label("Authenticator code").fill(one_time_code(page.get_by_label("Authenticator secret").input_value()))
    page.get_by_role("button", name="Activate").click()
    page.goto("/accounts/2fa/recovery-codes/")
    recovery_code = page.locator("textarea").input_value().split()[0]
    page.context.clear_cookies()
    page.goto("/admin/")
    sign_in_with_a_password(page)
    page.get_by_label("Code").fill(recovery_code)
    page.get_by_role("button", name="Sign In").click()
    expect(page).to_have_url(ADMIN)


def test_somebody_without_an_account_cannot_sign_in(page, provider):
    provider.email = EVE
    sign_in_at_the_provider(page)
    expect(page.get_by_role("heading", name="Sign Up Closed")).to_be_visible()
    page.goto("/accounts/signup/")
    expect(page.get_by_role("heading", name="Sign Up Closed")).to_be_visible()


def test_passwords_have_the_limit_of_the_admin_and_pages_the_strict_policy(site, provider):
    with httpx.Client(base_url=site, headers={"X-Forwarded-For": "192.0.2.9"}, timeout=WAIT_SECONDS) as visitor:
        form = visitor.get("/accounts/login/")
        assert f"form-action 'self' {provider.address};" in form.headers["Content-Security-Policy"]
        assert "default-src 'self';" in form.headers["Content-Security-Policy"]
        fields = {"login": "ada", "csrfmiddlewaretoken": visitor.cookies["csrftoken"]}
        guesses = [visitor.post("/accounts/login/", data=fields | {"password": str(it)}) for it in range(4)]
        assert [guess.status_code for guess in guesses] == [200, 200, 200, 429]


def one_time_code(secret):
    """The code of RFC 6238 for now."""
    import hmac

    digest = hmac.digest(base64.b32decode(secret), int(time.time() // 30).to_bytes(8, "big"), "sha1")
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"

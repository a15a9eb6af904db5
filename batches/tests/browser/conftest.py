"""A real Chromium before a real server. Whatever a page complains of fails the test, unless the test expects it."""

import shutil
import socket
import subprocess
import sys

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from ..admin.conftest import user_of
from ..conftest import skip_or_fail

#: Nothing of it reaches beyond the machine; as root, as in containers, Chromium's own sandbox does not work.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT = 10_000  # milliseconds
#: Chromium's own words for what a policy forbids differ from case to case.
WATCH = """
addEventListener("securitypolicyviolation", event =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""


@pytest.fixture(scope="package")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        skip_or_fail("There is no Chromium: install it with `apt-get install chromium`.")
    expect.set_options(timeout=TIMEOUT)
    with pytest.MonkeyPatch.context() as patch:
        # Playwright leaves an event loop in this thread, and Django then takes every query for one that blocks it.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
            yield browser
            browser.close()


@pytest.fixture(scope="session")
def live_server(django_db_setup):
    """Takes the place of pytest-django's fixture, which may look at the database before it is the test's own."""
    server = LiveServer("127.0.0.1")
    yield server
    server.stop()


class Problems:
    """What pages complained of, but for texts with a part that the test expects."""

    def __init__(self):
        self.found = []
        self.expected = []

    def watch(self, page):
        page.on("console", lambda message: message.type in {"error", "warning"} and self.add(message.text))
        page.on("pageerror", lambda error: self.add(f"uncaught: {error}"))
        page.on("dialog", lambda dialog: (self.add(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.add_init_script(WATCH)

    def add(self, text):
        self.found.append(text)

    @property
    def unexpected(self):
        return [text for text in self.found if not any(part in text for part in self.expected)]

    def taken(self):
        """The unexpected ones up to now, which then are done with."""
        unexpected, self.found = self.unexpected, []
        return unexpected


@pytest.fixture
def problems():
    problems = Problems()
    yield problems
    assert problems.unexpected == []


@pytest.fixture
def open_page(browser, live_server, problems):
    """Opens an address as somebody with this role, in a window of its own; the options are those of Playwright."""
    contexts = []

    def open_page(address, role="superuser", server=live_server.url, **options):
        context = browser.new_context(base_url=server, **options)
        contexts.append(context)
        context.set_default_timeout(TIMEOUT)
        if role != "anonymous":
            context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session_of(role), "url": server}])
        page = context.new_page()
        problems.watch(page)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()


def session_of(role):
    client = Client()
    client.force_login(user_of(role))
    return client.cookies[settings.SESSION_COOKIE_NAME].value


class WebServer:
    """The application behind waitress, as a process of its own that can be killed and started again."""

    def __init__(self, database_url, environ):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environ = environ | {"DATABASE_URL": database_url}
        self.process = None

    def start(self):
        command = [sys.executable, "-m", "waitress", f"--listen=127.0.0.1:{self.port}", settings.WSGI_APPLICATION]
        self.process = subprocess.Popen(
            command, cwd=settings.BASE_DIR, env=self.environ, stderr=subprocess.PIPE, text=True
        )
        for line in self.process.stderr:
            if "Serving on" in line:
                return

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stderr.close()
            self.process = None

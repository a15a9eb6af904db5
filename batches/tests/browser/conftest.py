"""A real Chromium with a real server. Every unexpected complaint of a page fails the test."""

import shutil

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from ..admin.conftest import user_of
from ..conftest import skip_or_fail

#: Chromium's own sandbox does not work as root, as in containers. It reaches nothing outside of this machine.
ARGUMENTS = ["--no-sandbox", "--disable-gpu"]
TIMEOUT = 180_000  # milliseconds, for a busy machine
#: Chromium words its own message differently for each kind of violation.
REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", event =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""


def pytest_collection_modifyitems(items):
    for item in items:
        if __package__ in item.module.__name__:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(900))


#: The first one has no window to draw, and takes a third less time.
CHROMIUMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="package")
def browser():
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        skip_or_fail("Chromium is not installed. Install it with `apt-get install chromium-headless-shell`.")
    expect.set_options(timeout=TIMEOUT)
    with pytest.MonkeyPatch.context() as patch:
        # Playwright leaves an event loop in this thread. Without this, Django refuses every query there.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=TIMEOUT)
            yield browser
            browser.close()


@pytest.fixture(scope="session")
def live_server(django_db_setup):
    """Replaces pytest-django's fixture, which can read the database before it is the test's own."""
    server = LiveServer("127.0.0.1")
    yield server
    server.stop()


class Problems:
    """The complaints of pages: errors, warnings and dialogs. `expected` holds parts of harmless ones."""

    def __init__(self):
        self.messages = []
        self.expected = []

    def watch(self, page):
        add = self.messages.append
        page.on("console", lambda message: add(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: add(f"uncaught: {error}"))
        page.on("dialog", lambda dialog: (add(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.add_init_script(REPORT_VIOLATIONS)

    def take_unexpected(self):
        """Return the unexpected messages since the last call."""
        unexpected = [text for text in self.messages if not any(part in text for part in self.expected)]
        self.messages.clear()
        return unexpected


@pytest.fixture
def problems():
    problems = Problems()
    yield problems
    assert problems.take_unexpected() == []


@pytest.fixture
def open_page(browser, live_server, problems):
    """Opens an address as a user with this role, in a separate window. It takes Playwright's options."""
    contexts = []

    def open_page(address, role="superuser", server=live_server.url, **options):
        context = browser.new_context(base_url=server, **options)
        contexts.append(context)
        context.set_default_timeout(TIMEOUT)
        if role != "anonymous":
            context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": log_in(role), "url": server}])
        page = context.new_page()
        problems.watch(page)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()


def log_in(role):
    """Return the session key of a new user with this role."""
    client = Client()
    client.force_login(user_of(role))
    return client.cookies[settings.SESSION_COOKIE_NAME].value

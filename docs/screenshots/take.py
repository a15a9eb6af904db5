"""Takes the screenshots of the README: `make screenshots`.

Starts the application with the demo on a separate database, checks feeds for half a minute, and opens it in Chromium.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from batches.tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "docs" / "screenshots"
MANAGE = [sys.executable, str(ROOT / "manage.py")]
MAX_BYTES = 200_000
WAIT_SECONDS = 120
USER, PASSWORD = "ada", secrets.token_urlsafe(12)
WORKER = "checker-1:4012"
DESKTOP = {"width": 1180, "height": 900}
PHONE = {"width": 360, "height": 740}


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        port, feed_port = free_port(), free_port()
        os.environ |= {
            "DATABASE_URL": f"sqlite:///{directory}/screenshots.sqlite3",
            "DEMO_PORT": feed_port,
            "DJANGO_SETTINGS_MODULE": "batchproject.settings",
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
            "PORT": port,
            "SECRET_KEY": secrets.token_urlsafe(50),
        }
        subprocess.run([*MANAGE, "migrate", "--verbosity=0"], check=True)
        subprocess.run([*MANAGE, "createsuperuser", "--noinput", f"--username={USER}", "--email="], check=True)
        with run_application():
            batches = make_batches(int(feed_port))
            with launch_chromium() as browser:
                take_all(browser, f"http://127.0.0.1:{port}", batches)


@contextmanager
def run_application() -> Iterator[None]:
    process = subprocess.Popen([*MANAGE, "serve", "--demo"], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextmanager
def launch_chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        sys.exit("Chromium is not installed. Install it with `apt-get install chromium`.")
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not work as root, as in containers. It only opens this application.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def make_batches(feed_port: int) -> dict[str, Any]:
    """Make batches in every status, while the demo's own three are checked. Return all batches by name."""
    import django

    django.setup()
    from batches.batch_manager import BatchManager
    from batches.demo import profiles as demo
    from batches.models import Batch, Lease, Worker

    wait_for(lambda: Batch.objects.filter(name=demo.BATCHES[-1].name).exists())
    addresses = [address for batch in demo.BATCHES for address in demo.profiles_of(batch, feed_port)]
    manager = BatchManager(USER, "admin")
    for number, name in enumerate(("Theatres", "Sports clubs", "Universities", "Archive")):
        manager.create_batch(name, addresses[number * 40 : number * 40 + 60], queue=name != "Archive")
    broken = manager.create_batch("Partners", addresses[:25])
    manager.handle_error(broken.pk, "The checker “partners” cannot be set up: no route to host.")
    first, second = (Batch.objects.get(name=batch.name) for batch in demo.BATCHES[:2])
    wait_for(lambda: is_checked(first, 0.1))
    manager.hold_queue("A person starts the next batch.")
    wait_for(lambda: Batch.objects.filter(pk=first.pk, status=Batch.Status.DONE).exists())
    manager.release_queue()
    manager.start_batch(second.pk)
    wait_for(lambda: is_checked(second, 0.4))
    manager.set_priority(second.pk, 6)  # the latest log entry, instead of the worker's
    Lease.objects.update(worker=WORKER)  # otherwise the pictures show the name of this machine
    Worker.objects.all().delete()
    return {batch.name: batch for batch in Batch.objects.all()}


def is_checked(batch: Any, part: float) -> bool:
    batch.refresh_from_db()
    return batch.completed_profiles > part * batch.total_profiles


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"The batches were not ready within {WAIT_SECONDS} s.")
        time.sleep(0.1)


def take_all(browser: Browser, site: str, batches: dict[str, Any]) -> None:
    page = browser.new_page(base_url=site, viewport=DESKTOP)
    # Playwright runs an event loop in this thread, so Django refuses queries from here on.
    page.goto("/admin/")
    page.get_by_label("Username").fill(USER)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()

    page.goto("/admin/")
    take(page, "overview")
    page.goto("/admin/batches/batch/queue/")
    take(page, "queue")
    page.emulate_media(color_scheme="dark")
    take(page, "queue-dark")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(PHONE)
    take(page, "queue-phone")
    page.set_viewport_size(DESKTOP)
    page.goto(f"/admin/batches/batch/{batches['Press'].pk}/change/")
    take(page, "batch")
    page.goto("/admin/batches/batch/add/")
    page.get_by_label("Name").fill("Evening feeds")
    page.locator("#id_addresses").fill("https://example.org/feed.xml\nhttps://example.net/news/\nhttps://example.com/")
    page.get_by_role("button", name="Preview").click()
    page.locator("#add-title").wait_for()
    page.locator("#add-preview").scroll_into_view_if_needed()
    take(page, "add")


def take(page: Page, name: str) -> None:
    page.evaluate("document.activeElement.blur()")
    page.evaluate("document.getAnimations().forEach(animation => animation.finish())")
    path = TARGET / f"{name}.png"
    page.screenshot(path=path)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size / 1000:.0f} kB")
    if size > MAX_BYTES:
        sys.exit(f"This image is too large for a README. The maximum is {MAX_BYTES / 1000:.0f} kB.")


if __name__ == "__main__":
    main()

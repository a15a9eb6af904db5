"""The whole story of a batch, as an operator has it: from the file that is uploaded to the repeat."""

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from batches.models import Batch
from batches.tests.support.feedserver import FeedServer
from batches.tests.support.processes import Commands

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

RSS = """<rss version="2.0"><channel><title>News</title><item><guid>{guid}</guid><title>{title}</title>
<link>https://news.example.org/{guid}</link></item></channel></rss>"""


class AddPage:
    def __init__(self, page):
        self.page = page

    def open(self):
        self.page.goto(reverse("admin:batches_batch_add"))

    def add(self, name, lines):
        """Uploads the lines as a file, looks at the preview and confirms; leads to the new batch's page."""
        text = "\n".join(lines).encode()
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("File").set_input_files({"name": "list.txt", "mimeType": "text/plain", "buffer": text})
        self.page.get_by_role("button", name="Preview").click()
        expect(self.page.get_by_role("heading", name="Preview")).to_contain_text("Nothing is stored yet")
        assert not Batch.objects.exists()
        self.page.get_by_role("button", name="Add batch").click()
        return BatchPage(self.page)


class BatchPage:
    def __init__(self, page):
        self.page = page

    def open(self, batch):
        self.page.goto(reverse("admin:batches_batch_change", args=[batch.pk]))

    def press(self, label):
        self.page.get_by_role("main").get_by_role("button", name=label, exact=True).click()

    def expect(self, *texts):
        for text in texts:
            expect(self.page.get_by_role("main")).to_contain_text(text)

    def expect_fact(self, name, value):
        fact = self.page.locator("dl > div").filter(has=self.page.locator("dt", has_text=name)).first
        expect(fact.locator("dd")).to_have_text(value)


class QueuePage:
    def __init__(self, page):
        self.page = page

    def open(self):
        self.page.goto(reverse("admin:batches_batch_queue"))

    def press(self, label, name):
        self.page.get_by_role("button", name=f"{label}: “{name}”").click()

    def expect_running(self, *texts):
        for text in texts:
            expect(self.page.locator(".queue-run")).to_contain_text(text)

    def expect_section(self, title, *texts):
        section = self.page.get_by_role("region", name=title)
        for text in texts:
            expect(section).to_contain_text(text)


def feed(guid, title):
    return RSS.format(guid=guid, title=title).encode()


def test_from_the_upload_to_the_repeat(open_page, database_url):
    with FeedServer() as server, Commands(database_url) as commands:
        server.answer("/one", body=feed("1", "The ferry opens again"))
        server.answer("/two", body=feed("2", "The choir sings"))
        server.answer("/broken", status=500)
        held = [server.hold("/two")]
        tell(open_page("about:blank", role="superuser"), server, commands, held)


def tell(page, server, commands, held):
    adding, batch_page, queue = AddPage(page), BatchPage(page), QueuePage(page)
    adding.open()
    adding.add("Morning feeds", [server.url("/one"), server.url("/two"), server.url("/broken"), "no address"])
    expect(page.locator(".messagelist")).to_contain_text("“Morning feeds” was added and waits at position 1")
    expect(page.locator(".messagelist")).to_contain_text("Line 4: “no address”")
    batch = Batch.objects.get()

    queue.open()
    queue.expect_section("Waiting", "Morning feeds", "no worker heartbeat yet")
    commands.start_worker(concurrency=3, per_host=3)
    held[0].wait_for()
    queue.expect_running("Morning feeds", "2 of 3")  # without a reload
    queue.press("Pause", "Morning feeds")
    queue.expect_running("Nothing is running")
    queue.expect_section("Paused", "Morning feeds")

    held[0].open()
    queue.press("Queue", "Morning feeds")
    queue.expect_section("Done today", "Morning feeds")
    batch_page.open(batch)
    batch_page.expect_fact("Status", "Done")
    batch_page.expect_fact("Progress", "3 of 3")
    batch_page.expect_fact("New stories", "2")
    batch_page.expect("The ferry opens again", "The choir sings", "500")
    batch_page.expect("pause_batch", "superuser")

    server.answer("/broken", body=feed("3", "Back again"))
    batch_page.press("Retry failed")
    queue.open()
    queue.expect_section("Done today", "Morning feeds", "3 ok")
    batch_page.open(batch)
    batch_page.expect("Back again", "No failed profiles.")

    server.answer("/one", body=feed("4", "The museum stays free"))
    batch_page.press("Repeat")
    expect(page.locator(".messagelist")).to_contain_text("A repeat of “Morning feeds” was queued.")
    repeat = Batch.objects.get(previous=batch)
    queue.open()
    expect(page.get_by_role("region", name="Done today").locator(".queue-row")).to_have_count(2)
    batch_page.open(repeat)
    batch_page.expect_fact("Status", "Done")
    batch_page.expect_fact("New stories", "1")
    batch_page.expect_fact("Repeat of", "Morning feeds")
    batch_page.expect("The museum stays free")
    batch_page.expect("Compared with the previous batch")
    batch_page.expect_fact("Unchanged", "3")

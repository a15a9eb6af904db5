"""The whole story of a batch as an operator sees it, from the upload of a file to the repeat."""

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from batches.models import Batch

from ..admin.conftest import QUEUE, page_of
from .steps import open_impatient

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

RSS = b"""<rss version="2.0"><channel><title>News</title><item><guid>%b</guid><title>%b</title>
<link>https://news.example.org/%b</link></item></channel></rss>"""


def expect_texts(part, *texts):
    for text in texts:
        expect(part).to_contain_text(text)


def expect_facts(page, **facts):
    for name, value in facts.items():
        fact = page.locator("dl > div").filter(has=page.locator("dt", has_text=name.replace("_", " "))).first
        expect(fact.locator("dd")).to_have_text(value)


def press(page, label):
    page.get_by_role("main").get_by_role("button", name=label, exact=True).click()


def add_by_upload(page, name, lines):
    page.goto(reverse("admin:batches_batch_add"))
    page.get_by_label("Name").fill(name)
    page.get_by_label("Count first").check()  # reports the existing stories
    file = {"name": "list.txt", "mimeType": "text/plain", "buffer": "\n".join(lines).encode()}
    page.get_by_label("File").set_input_files(file)
    press(page, "Preview")
    expect(page.get_by_role("heading", name="Preview")).to_be_visible()
    assert not Batch.objects.exists()
    press(page, "Add batch")


def test_from_the_upload_to_the_repeat(open_page, commands, server):
    server.answer("/one", body=RSS % (b"1", b"The ferry opens again", b"1"))
    server.answer("/two", body=RSS % (b"2", b"The choir sings", b"2"))
    server.answer("/broken", status=500)
    held = server.hold("/two")
    page = open_impatient(open_page, "about:blank")
    main, done = page.get_by_role("main"), page.get_by_role("region", name="Done today")

    add_by_upload(page, "News", [*map(server.url, ("/one", "/two", "/broken")), "no address"])
    expect_texts(page.locator(".messagelist"), "“News” was added", "“no address”")
    batch = Batch.objects.get()

    page.goto(QUEUE)
    expect_texts(page.get_by_role("region", name="Waiting"), "News", "no worker heartbeat yet")
    commands.start_worker(concurrency=3, per_host=3)
    held.wait_for()
    expect_texts(page.locator(".queue-run"), "News", "2 of 3")  # without a reload
    page.get_by_role("link", name="Pause: “News”").click()
    press(page, "Pause")
    expect_texts(page.get_by_role("region", name="Paused"), "News")
    held.open()
    press(page, "Continue: “News”")
    expect_texts(done, "News")

    page.goto(page_of(batch))
    expect_facts(page, Status="Done", Progress="3 of 3", New_stories="2")
    expect_texts(main, "The ferry opens again", "The choir sings", "500", "Paused by superuser")
    server.answer("/broken", body=RSS % (b"3", b"Back again", b"3"))
    press(page, "Recheck 1 failed")
    page.goto(QUEUE)
    expect_texts(done, "News", "3 ok")
    page.goto(page_of(batch))
    expect_texts(main, "Back again")

    server.answer("/one", body=RSS % (b"4", b"The museum stays free", b"4"))
    press(page, "New run")
    expect(page.locator(".messagelist")).to_contain_text("“News”")
    page.goto(QUEUE)
    expect(done.locator(".queue-row")).to_have_count(2)
    page.goto(page_of(Batch.objects.get(previous=batch)))
    expect_facts(page, Status="Done", New_stories="1", Previous_run="News", Unchanged="3")
    expect_texts(main, "The museum stays free")

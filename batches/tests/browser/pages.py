"""Every page of the admin, and the rows that they show.

A new page is visited automatically, a new state needs one line.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, User
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page as BrowserPage

from batches.batch_manager import BatchManager
from batches.models import Attempt, Batch, BatchLog, BatchProfile, Host, Profile, StoryResult, Webhook
from batches.models.api import AccessToken
from batches.tests.support.factories import empty_leases

from ..admin.conftest import READ_ONLY, batch_with, names_of_addresses, reread, story
from ..support.factories import make_list, propose_redirect, subscribe

Rows = SimpleNamespace
#: Texts that somebody may type into a form. They must not become elements.
SCRIPT = '"><img class=injected src=x onerror=alert(1)>'


def stay(page: BrowserPage) -> None:
    """Stay on the page as it opens."""


@dataclass(frozen=True)
class Page:
    """A page by the name of its URL; `of` names its row, `steps` lead from its address to the wanted state."""

    name: str
    of: str = ""
    query: str = ""
    steps: Callable[[BrowserPage], Any] = stay

    def address(self, rows: Rows) -> str:
        arguments = ["batches"] if self.name == "app_list" else [getattr(rows, self.of).pk] if self.of else []
        return reverse(f"admin:{self.name}", args=arguments) + self.query.format(repeat=rows.repeat.pk)

    def open(self, page: BrowserPage, rows: Rows) -> None:
        page.goto(self.address(rows))
        self.steps(page)


def select_all_and(action: str) -> Callable[[BrowserPage], None]:
    def steps(page: BrowserPage) -> None:
        page.locator("#action-toggle").check()
        page.locator("select[name=action]").select_option(action)
        with page.expect_navigation():
            page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).click()

    return steps


def delete_the_paused(page: BrowserPage) -> None:
    page.get_by_role("region", name="Paused").get_by_role("checkbox").first.check()
    with page.expect_navigation():
        page.locator("#selected-delete").click()


def preview_a_move(page: BrowserPage) -> None:
    page.locator(".queue-waiting [id^=more-]").first.click()
    page.locator("[id^=down-]").first.click()
    page.locator("#move-confirm").wait_for()


def start_from_the_menu_although_the_queue_is_held(page: BrowserPage) -> None:
    page.locator(".queue-waiting [id^=more-]").first.click()
    start_although_the_queue_is_held(page)


def start_although_the_queue_is_held(page: BrowserPage) -> None:
    page.locator("[id^=start_batch]").first.click()
    page.locator(".live-refusal").wait_for()


def ask_for_the_reason_of_a_pause(page: BrowserPage) -> None:
    page.locator("[id^=select-]").first.check()
    page.locator(".queue-waiting [id^=more-]").first.click()
    page.locator(".queue-waiting [id^=pause_batch]").first.click()
    page.locator("#pause-confirm").wait_for()


def open_the_tables_and_the_form(page: BrowserPage) -> None:
    page.locator("#chart-table-summary").click()
    page.locator(".batch-edit > summary").click()


def send_an_empty_form(page: BrowserPage) -> None:
    page.locator("form:not(#logout-form)").evaluate("form => form.noValidate = true")
    page.get_by_role("button", name="Preview").or_(page.get_by_role("button", name="Save", exact=True)).click()
    page.locator(".errornote").first.wait_for()


def preview_a_list(page: BrowserPage) -> None:
    page.get_by_label("Name").fill(SCRIPT)
    page.locator("#id_addresses").fill(f"https://example.org/feed\n{SCRIPT}\nhttps://example.org/feed")
    page.get_by_role("button", name="Preview").click()
    page.locator("#add-title").wait_for()


def preview_an_import(page: BrowserPage) -> None:
    page.get_by_label("Replace the list with these profiles").check()
    page.locator("#id_addresses").fill(f"https://example.org/feed\n{SCRIPT}\nhttps://example.org/feed")
    page.get_by_role("button", name="Preview").click()
    page.locator("#id_allow_removals").wait_for()


def edit_a_previewed_list(page: BrowserPage) -> None:
    preview_a_list(page)
    page.locator("#id_addresses").press("Enter")
    page.get_by_role("button", name="Preview again").wait_for()


#: Pages in certain states, and the pages of Django's own models.
STATES = {
    "the overview": Page("index"),
    "the app": Page("app_list"),
    "the queue": Page("batches_batch_queue"),
    "a move": Page("batches_batch_queue", steps=preview_a_move),
    "a refusal in the queue": Page("batches_batch_queue", steps=start_from_the_menu_although_the_queue_is_held),
    "a pause": Page("batches_batch_queue", steps=ask_for_the_reason_of_a_pause),
    "deleting from the queue": Page("batches_batch_queue", steps=delete_the_paused),
    "the list of batches": Page("batches_batch_changelist"),
    "an empty list": Page("batches_batch_changelist", query="?q=nothing+of+that+name"),
    "a filtered list": Page("batches_batch_changelist", query="?status__exact=paused&priority=0&q=one"),
    "deleting from the list": Page("batches_batch_changelist", steps=select_all_and("delete_selected")),
    "a queued batch": Page("batches_batch_change", of="queued"),
    "the running batch": Page("batches_batch_change", of="running"),
    "a paused batch": Page("batches_batch_change", of="batch"),
    "a refusal for a batch": Page("batches_batch_change", of="batch", steps=start_although_the_queue_is_held),
    "a done batch": Page("batches_batch_change", of="done", steps=open_the_tables_and_the_form),
    "a batch in error": Page("batches_batch_change", of="error"),
    "a repeated batch": Page("batches_batch_change", of="repeat"),
    "adding a batch": Page("batches_batch_add"),
    "a batch without anything": Page("batches_batch_add", steps=send_an_empty_form),
    "a batch's preview": Page("batches_batch_add", steps=preview_a_list),
    "a batch's outdated preview": Page("batches_batch_add", steps=edit_a_previewed_list),
    "importing into a list": Page("batches_profilelist_import", of="profilelist", steps=preview_an_import),
    "removing from a list": Page("batches_listprofile_changelist", steps=select_all_and("remove_selected")),
    "accepting redirects": Page("batches_redirect_changelist", steps=select_all_and("accept_selected")),
    "profiles": Page("batches_profile_changelist"),
    "checking profiles": Page("batches_profile_changelist", steps=select_all_and("check_selected")),
    "forgetting profiles": Page("batches_profile_changelist", steps=select_all_and("forget_selected")),
    "checks": Page("batches_batchprofile_changelist"),
    "profiles that changed": Page("batches_batchprofile_changelist", query="?batch={repeat}&change=unchanged"),
    "failures": Page("batches_profile_failures", query="?period=week"),
    "no failures": Page("batches_profile_failures", query="?period=yesterday"),
    "stories by profile": Page("batches_storyresult_reading", query="?by=profile&day=today&unread=1"),
    "no stories of a batch": Page("batches_storyresult_reading", query="?batch={repeat}"),
    "users": Page("auth_user_changelist"),
    "a user": Page("auth_user_change", of="user"),
    "adding a user": Page("auth_user_add"),
    "a user's password": Page("auth_user_password_change", of="user"),
    "groups": Page("auth_group_changelist"),
    "adding a group": Page("auth_group_add"),
    "changing the password": Page("password_change"),
    "a password changed": Page("password_change_done"),
}

#: Views without a page: they serve scripts, act on a click, or are refused because their rows are read-only.
ACTIONS = {"details", "export", "live", "operate", "hold", "release", "move", "selected", "run"}


def every_page() -> dict[str, Page]:
    """Return the states, and every other page of the project's models as it opens."""
    names = {name for name in names_of_addresses() if name.startswith("batches_")}
    others = {name: plain_page(name) for name in sorted(names - {page.name for page in STATES.values()})}
    return STATES | {name: page for name, page in others.items() if page}


#: Pages that our own scripts change without a click.
SCRIPTED = {"index", "batches_batch_queue", "batches_batch_change", "batches_batch_add"}


def is_scripted(page: Page) -> bool:
    """Whether the page is complete only after a script has run."""
    return page.name in SCRIPTED or page.steps is not stay


#: States that look like another state, or like a part of one.
LOOK_ALIKES = {
    *("an empty list", "a filtered list", "a queued batch", "a paused batch", "a batch's preview"),
    *("profiles that changed", "no stories of a batch"),
}

#: Many pages differ only in their fields. Of these, the forms and questions with their own template, and one of each of
#: Django's kinds.
FORMS = {
    *("batches_batch_delete", "batches_profilelist_change", "batches_profilelist_delete", "batches_profile_change"),
    *("batches_webhook_add", "batches_webhook_change", "batches_webhook_delete", "batches_webhook_history"),
    *("batches_batchlog_change", "batches_accesstoken_add", "batches_listfeed_add"),
}


def one_of_each_look() -> dict[str, Page]:
    """Return our states and lists, but those that look alike once, and one form of each kind."""
    of_django = ("auth_", "password_")
    like_others = ("_add", "_change", "_delete", "_history")
    return {
        name: page
        for name, page in every_page().items()
        if not page.name.startswith(of_django)
        and name not in LOOK_ALIKES
        and (page.name in FORMS or name in STATES or not name.endswith(like_others))
    }


def plain_page(name: str) -> Page | None:
    _, model, *_, view = name.split("_")
    is_read_only = apps.get_model("batches", model) in READ_ONLY
    if view in ACTIONS or (view in {"add", "delete"} and is_read_only):
        return None
    return Page(name, of=model if view in {"change", "delete", "history", "import"} else "")


def make_rows() -> Rows:
    """Make batches in every status with all that belongs to them, and the rows behind Django's own pages."""
    webhook = Webhook.objects.create(url="https://example.org/hook", name="the hook")
    stories = [story(), story("Another story", "http://news.example.org/2")]
    done, paused, error = (
        batch_with(status, name=f"the {status} one", ok=2, failed=1, stories=[*stories, story(f"Story of {status}")])
        for status in ("done", "paused", "error")
    )
    for number in (1, 2, 3):
        queued = batch_with(name=f"number {number}")
    running = batch_with("running", name="the running one", ok=3, failed=1, pending=6)
    empty_leases(running)
    Batch.objects.filter(pk=running.pk).update(run_seconds=2)
    repeat = BatchManager("ada", "admin").repeat_batch(done.pk)
    BatchManager("ada", "admin").hold_queue("The network is down.")
    user = User.objects.create_user("ada", "ada@example.org", "secret", is_staff=True)
    for row in [webhook, *Batch.objects.all()]:
        LogEntry.objects.log_actions(user.pk, [row], CHANGE, [{"changed": {"fields": ["Name"]}}], single_object=True)
    profilelist = make_list("the list", 3)
    BatchManager("ada", "admin").run_list(profilelist.pk)
    subscription = subscribe(profilelist)
    feed = BatchManager("ada", "admin").create_feed(profilelist.pk, "a feed").feed
    return Rows(
        user=user,
        profilelist=profilelist,
        listfeed=feed,
        listprofile=profilelist.profiles.latest("pk"),
        group=Group.objects.create(name="operators"),
        queued=queued,
        running=reread(running),
        batch=paused,
        done=done,
        error=error,
        repeat=repeat,
        profile=Profile.objects.latest("pk"),
        attempt=Attempt.objects.create(
            batch=done, profile=Profile.objects.latest("pk"), status="failed", error="gone", checked_at=timezone.now()
        ),
        batchprofile=BatchProfile.objects.filter(status="failed").latest("pk"),
        storyresult=StoryResult.objects.latest("pk"),
        batchlog=BatchLog.objects.latest("pk"),
        host=Host.objects.create(name="busy.example", not_before=timezone.now(), interval=1.0, last_status=429),
        redirect=propose_redirect("https://old.example/", "https://new.example/"),
        subscription=subscription,
        webhook=webhook,
        webhookdelivery=webhook.deliveries.latest("pk"),
        accesstoken=AccessToken.objects.create(user=user, name="nightly"),
    )

"""Every page of the admin is accessible, obeys the policy, logs no error, and fits its window."""

from itertools import cycle

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.urls import reverse
from playwright.sync_api import expect

from batches.models import Batch, BatchLog, BatchProfile, ProfileList, Queue

from .. import test_production
from ..admin.conftest import names_of_addresses
from .pages import every_page, make_rows, one_of_each_look
from .steps import CONFLICT, TOUCHING

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
#: Measuring it takes longer than all other rules.
CONTRAST = "color-contrast"
#: Rules that can fail only in dark mode or on a phone. All others depend only on the page's elements.
VISUAL_RULES = [CONTRAST, "link-in-text-block", "scrollable-region-focusable"]
BOTH = ("light", "dark")
#: Faults of Django's own widgets: the two halves of a time, the tooltips of the selection boxes.
DJANGOS_FAULTS = {"a user": {"label", "aria-prohibited-attr"}, "adding a group": {"aria-prohibited-attr"}}

#: Returns the serious violations. With `preload`, axe would fetch the style sheets again, which the policy forbids.
RUN_AXE = """async options => (await axe.run(document, {
    preload: false, resultTypes: ["violations"], ...options,
})).violations
    .filter(({impact}) => ["serious", "critical"].includes(impact))
    .map(({id, nodes}) => [id, nodes.map(node => node.html).join(" | ").slice(0, 300)])"""
FINISH_TRANSITIONS = "document.getAnimations().forEach(animation => animation.finish())"
#: On a phone, a list scrolls within the page.
CUT = """[...document.querySelectorAll(".results, .dashboard-parts .module, .form-row:not(:has(.selector))")]
    .filter(part => part.scrollWidth > part.clientWidth + 1).length"""
IS_DARK = "getComputedStyle(document.body).color.match(/[0-9]+/)[0] > 128"


def find_faults(page, measured=BOTH):
    """Yield (rule, elements) for each fault, in light mode on a desktop and in dark mode on a phone.

    The contrast is measured in the modes `measured`.
    """
    page.evaluate(AXE_SCRIPT)
    for scheme, size, rules in (("light", DESKTOP, None), ("dark", PHONE, VISUAL_RULES)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        page.evaluate(FINISH_TRANSITIONS)
        yield from page.evaluate(RUN_AXE, choose_rules(rules, scheme in measured))
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > size["width"]:
            yield "scrolls sideways", f"{width} pixels wide"
        if size == DESKTOP and page.evaluate(CUT):
            yield "cuts a list", f"{width} pixels wide"
        yield from (("touches the element below", note) for note in page.evaluate(TOUCHING))
        if page.evaluate(IS_DARK) != (scheme == "dark"):
            yield "ignores the colour scheme", scheme


def choose_rules(rules, has_contrast):
    """Return the options of axe for these rules, or for all."""
    if rules is None:
        return {"rules": {CONTRAST: {"enabled": has_contrast}}}
    return {"runOnly": [rule for rule in rules if has_contrast or rule != CONTRAST]}


@pytest.mark.parametrize(
    ("pages", "turns"),
    [(one_of_each_look, [("light",), ("dark",)]), pytest.param(every_page, [BOTH], marks=pytest.mark.exhaustive)],
)
def test_every_page_is_accessible_keeps_the_policy_and_fits_a_phone(pages, turns, open_page, problems):
    problems.expected.append(CONFLICT)
    rows = make_rows()
    write_long_texts(rows)
    page = open_page("about:blank")
    faults = []
    for (name, each), measured in zip(pages().items(), cycle(turns), strict=False):
        each.open(page, rows)
        found = find_faults(page, measured)
        faults += [(name, *fault) for fault in found if fault[0] not in DJANGOS_FAULTS.get(name, ())]
        faults += [(name, text) for text in problems.take_unexpected()]
    assert not faults, "\n".join(map(str, faults))


def test_german_words_fit_into_lists_and_tables(german, open_page):
    write_long_texts(make_rows())
    page = open_page("/admin/", locale="de-DE", viewport=DESKTOP)
    expect(page.get_by_role("heading", name="Übersicht")).to_be_visible()
    faults = []
    for name in ("index", *sorted(name for name in names_of_addresses() if name.endswith("_changelist"))):
        page.goto(reverse(f"admin:{name}"))
        width = page.evaluate("document.documentElement.scrollWidth")
        if page.evaluate(CUT) or width > DESKTOP["width"]:
            faults.append(name)
    assert faults == []


def write_long_texts(rows):
    Batch.objects.filter(pk__in=[rows.queued.pk, rows.repeat.pk]).update(name="x" * 200)
    ProfileList.objects.update(name="x" * 200)
    Batch.objects.filter(status="error").update(error="y" * 2000)
    BatchProfile.objects.filter(status="failed").update(error="y" * 500)
    BatchLog.objects.update(message="z" * 300)
    Queue.objects.update(hold_reason="z" * 300)


@pytest.mark.parametrize(
    ("role", "address", "heading"),
    [
        ("anonymous", "/nothing/", "Not found"),
        ("staff", "/admin/nothing/", "Not found"),
        ("staff", "/admin/batches/batch/add/", "Permission denied"),
        ("staff", "/fault/", "Server error"),
    ],
)
def test_every_error_page_is_accessible_and_fits_a_phone(open_page, problems, settings, role, address, heading):
    settings.ROOT_URLCONF = test_production.__name__  # has an address that fails
    problems.expected += ["status of 404", "status of 403", "status of 500"]
    page = open_page(address, role=role)
    expect(page.get_by_role("heading")).to_have_text(heading)
    assert list(find_faults(page)) == []
    page.get_by_role("link", name="Go to the overview").click()
    button = page.get_by_role("button", name="Log in" if role == "anonymous" else "Log out")
    expect(button).to_be_visible()
    assert list(find_faults(page)) == []
    if role == "staff":
        button.click()
        expect(page.get_by_role("heading", name="Logged out")).to_be_visible()
        assert list(find_faults(page)) == []

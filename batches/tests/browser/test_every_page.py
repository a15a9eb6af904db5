"""What holds for every page of the admin: nobody is kept out, nothing is complained of, and it fits a phone."""

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.contrib import admin
from django.urls import URLPattern
from playwright.sync_api import expect

from .pages import NO_PAGES, PAGES, make_rows

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

DESKTOP = {"width": 1400, "height": 900}
PHONE = {"width": 360, "height": 740}
#: What may be wrong in the dark or on a phone alone; all else follows from the page's elements.
OF_LOOKS = ["color-contrast", "link-in-text-block", "scrollable-region-focusable"]
#: Django's own widgets, made by its scripts: the two halves of a time, the tooltips of the boxes to choose from.
OF_DJANGO = {"a user": {"label", "aria-prohibited-attr"}, "adding a group": {"aria-prohibited-attr"}}

#: Finds the serious; axe looks at the style sheets too where it may fetch them again, which the policy forbids.
RUN_AXE = """async rules => (await axe.run(document, {
    preload: false, resultTypes: ["violations"], ...(rules && {runOnly: rules}),
})).violations
    .filter(({impact}) => ["serious", "critical"].includes(impact))
    .map(({id, nodes}) => [id, nodes.map(node => node.html).join(" | ").slice(0, 300)])"""
FINISH_TRANSITIONS = "document.getAnimations().forEach(animation => animation.finish())"


def test_every_page_is_in_the_table():
    names = {pattern.name for pattern in patterns(admin.site.urls[0]) if (pattern.name or "").startswith("batches_")}
    assert names == {page.name for page in PAGES.values() if page.name.startswith("batches_")} | NO_PAGES


def patterns(urls):
    for pattern in urls:
        if isinstance(pattern, URLPattern):
            yield pattern
        else:
            yield from patterns(pattern.url_patterns)


@pytest.mark.timeout(400)  # half a minute on an idle machine
def test_on_every_page_axe_finds_nothing_serious_the_policy_holds_and_a_phone_is_wide_enough(open_page, problems):
    rows = make_rows()
    page = open_page("about:blank")
    found = []
    for name, each in PAGES.items():
        each.open(page, rows)
        found += [(name, *fault) for fault in faults(page) if fault[0] not in OF_DJANGO.get(name, ())]
        found += [(name, text) for text in problems.taken()]
    assert not found, "\n".join(map(str, found))


def test_what_nobody_who_is_logged_in_sees_is_no_worse(open_page, problems):
    problems.expected += ["status of 404", "status of 403"]
    page = open_page("/admin/", role="anonymous")
    assert list(faults(page)) == []
    page.get_by_role("button", name="Log in").click()
    page.goto("/admin/nothing/")
    page.goto("/nothing/")
    expect(page.get_by_role("heading")).to_have_text("Not found")
    assert list(faults(page)) == []


def test_what_somebody_may_not_see_is_refused_with_a_way_back(open_page, problems):
    problems.expected += ["status of 404", "status of 403"]
    page = open_page("/admin/batches/batch/add/", role="staff")
    expect(page.get_by_role("heading")).to_have_text("Permission denied")
    assert list(faults(page)) == []
    page.goto("/admin/nothing/")
    expect(page.get_by_role("heading")).to_have_text("Not found")
    page.get_by_role("link", name="Go to the overview").click()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Logged out")).to_be_visible()
    assert list(faults(page)) == []


def faults(page):
    """What is wrong with the page, light on a desktop and dark on a phone: (rule, elements)."""
    page.evaluate(AXE_SCRIPT)
    for scheme, size, rules in (("light", DESKTOP, None), ("dark", PHONE, OF_LOOKS)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        page.evaluate(FINISH_TRANSITIONS)
        yield from page.evaluate(RUN_AXE, rules)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > size["width"]:
            yield "scrolls sideways", f"{width} pixels wide"


def test_faults_are_found(open_page, problems):
    page = open_page("/admin/")
    page.evaluate("""document.getElementById("content").innerHTML = `<img src="/static/batches/icon.svg"><input>
        <p id="pale">Pale</p><p id="wide">Wide</p>`""")
    page.evaluate("""Object.assign(document.getElementById("pale").style, {color: "#777", background: "#888"})""")
    page.evaluate("""document.getElementById("wide").style.width = "500px" """)
    assert {rule for rule, _ in faults(page)} >= {"image-alt", "label", "color-contrast", "scrolls sideways"}

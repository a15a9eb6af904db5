"""The README and the pages of `docs/` lead to each other, and the README stays short."""

import re

import pytest
import yaml

from batches import __version__
from batches.tests.support.documents import DOCS, FENCE, ROOT, find_pages, without_code

#: The name of a heading in a link is the one that GitHub makes, and Sphinx with MyST.
LINK = re.compile(r"\]\(([^()\s]+)\)")
PAGES = find_pages()


def slug_of(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")


def headings_of(path):
    return {slug_of(found) for found in re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text()), re.MULTILINE)}


def breaches(page):
    """The faults of the links of a page."""
    for target in LINK.findall(without_code(page.read_text())):
        if target.startswith(("https://", "http://")):
            continue
        name, _, heading = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists():
            yield f"{target}: no such file"
        elif page.is_relative_to(DOCS) and not path.is_relative_to(DOCS):
            yield f"{target}: the site has no files from outside of docs/"
        elif heading and heading not in headings_of(path):
            yield f"{target}: the page has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_to_a_page_and_its_heading(page):
    assert not list(breaches(page))


def test_each_page_is_in_the_contents_once():
    contents = re.findall(r"^([a-z-]+/[a-z-]+)$", (DOCS / "index.md").read_text(), re.MULTILINE)
    pages = [str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.glob("*/*.md")]
    assert sorted(contents) == sorted(pages)


def test_the_readme_is_read_in_five_minutes():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert "docs/index.md" in text


def test_the_changelog_has_a_date_for_this_version():
    latest = re.search(r"^## (\d\S+) \((\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert latest[1] == __version__


@pytest.mark.parametrize("template", ["bug", "feature", "config"])
def test_the_templates_of_issues_can_be_read(template):
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{template}.yml").read_text())
    assert template == "config" or {"name", "description", "body"} <= form.keys()

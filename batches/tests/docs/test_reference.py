"""The pages that list things have all of them: commands, settings, states, permissions, errors."""

import re
import runpy
from dataclasses import fields

import pytest
from rest_framework import exceptions

from batches import __version__
from batches.api import access, conditional, errors, idempotency
from batches.checking.checkers import base, client
from batches.conf import Config
from batches.models import OUTDATED, Action
from batches.models.api import AccessToken
from batches.models.logs import Channel
from batches.queue.refusals import Code
from batches.queue.transitions import RULES
from batches.reports.doctor import CONTRADICTIONS
from batches.tests.support.documents import DOCS, ROOT, read_page
from batches.web.error_pages import FAULT
from batches.web.outages import ADVICE, BUSY, UNAVAILABLE

from . import messages

API_CODES = {
    *(getattr(found, "default_code", "") for found in vars(exceptions).values() if isinstance(found, type)),
    *(found.default_code for module in (conditional, errors, idempotency) for found in vars(module).values()
      if isinstance(found, type) and issubclass(found, exceptions.APIException)),
    "unavailable",
    FAULT,
} - {"", "error"}  # fmt: skip


def missing(wanted, page):
    """The names that the page lacks."""
    text = read_page(page)
    return sorted(name for name in wanted if f"`{name}`" not in text and f"`{name} " not in text)


def test_the_page_of_the_commands_matches_their_help():
    written = runpy.run_path(DOCS / "reference" / "write_commands.py")["write"]()
    assert written == read_page("reference/commands.md"), "docs/reference/commands.md is stale. Run: make reference"


#: Defaults that depend on the machine or the version.
IN_WORDS = {"processes": "one for each core, at most 4", "user_agent": "names this software"}


def default_of(setting):
    value = getattr(Config(), setting.name)
    if setting.name in IN_WORDS:
        return IN_WORDS[setting.name]
    return "" if value in ({}, (), "") else f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def test_each_setting_of_the_app_is_on_the_page_with_its_default():
    page = read_page("reference/settings.md")
    rows = [f"| `BATCHES_{it.name.upper()}` | {default_of(it)} |".replace("|  |", "| |") for it in fields(Config)]
    assert not [row for row in rows if row not in page]


def test_each_variable_that_the_project_reads_is_on_the_page():
    found = set()
    for path, tree in messages.parse_all().items():
        if path.startswith("batchproject") or "management" in path or "demo" in path:
            found |= messages.variables_read(tree)
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \|", read_page("reference/settings.md"), re.MULTILINE)
    found -= {"DJANGO_SETTINGS_MODULE"}  # of Django
    assert sorted(found - set(re.findall(r"\w+", " ".join(rows)))) == []


def test_each_action_and_channel_of_the_log_is_on_its_page():
    assert not missing([*Action.values, *Channel.values], "reference/log.md")


def test_each_permission_of_the_api_and_each_scope_of_a_token_is_on_its_page():
    names = [value for name, value in vars(access).items() if name.isupper() and isinstance(value, str)]
    permissions = [name.removeprefix("batches.") for name in names if name.startswith("batches.")]
    assert len(permissions) >= 20
    assert not missing([*permissions, *AccessToken.Scope.values], "reference/permissions.md")


def test_the_page_of_the_states_has_each_transition():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", read_page("reference/states.md"), re.MULTILINE))
    for action, rule in RULES.items():
        assert set(re.findall(r"\w+", rows[action])) == set(rule.allowed_from), action


def test_the_way_back_to_this_version_stops_at_its_last_migration():
    page = read_page("operations/upgrade.md")
    last = max(path.name for path in (ROOT / "batches" / "migrations").glob("0*.py"))
    assert f"checkout --quiet v{__version__}" in page
    assert f"batches migrate batches {last[:4]}" in page


def test_each_code_of_a_refusal_has_a_remedy():
    assert not missing([*Code, *API_CODES], "operations/errors.md")
    assert not missing([*API_CODES], "reference/api.md")


#: Functions, since each reads the whole code.
FAULTS = {
    "logged": lambda: messages.logged_messages() - {"…"},
    "ending": messages.endings_without_advice,
    "reason": lambda: messages.reasons_of_failures() | {*base.NO_CONNECTION, client.CLOSED_EARLY},
    "finding": lambda: messages.findings_of_the_doctor() | set(CONTRADICTIONS),
    "check": messages.ids_of_system_checks,
    "outage": lambda: {BUSY, UNAVAILABLE, OUTDATED, *ADVICE.values()},
}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_error_has_a_remedy(kind):
    faults, page = FAULTS[kind](), read_page("operations/errors.md")
    assert len(faults) >= 4
    wanted = {text.partition(". ")[0] for text in faults if re.search("[a-z]{3}", text)}
    assert not sorted(text for text in wanted if f"`{text}" not in page)

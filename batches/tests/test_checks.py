import sqlite3

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from batches import checks
from batches.checks import check_base_url, check_config, check_executor, check_sqlite, check_wal_reset_bug
from batches.conf import config_from_environment
from batches.models import Queue
from batches.tests.support.factories import make_list, subscribe
from batches.text import clean_text, format_duration


@pytest.mark.parametrize(
    ("key", "value", "advice"),
    [
        ("CONCURRENCY", 0, "Use a whole number > 0"),
        ("PER_HOST", -1, "Use a whole number > 0"),
        ("PAGE_SIZE", 2000.0, "Use a whole number > 0"),
        ("TIMEOUT", "20", "Use a number > 0"),
        ("LEASE_SECONDS", float("nan"), "Use a number > 0"),
        ("POLL_SECONDS", float("inf"), "Use a number > 0"),
        ("LONGEST_REST", 1e12, "Use a number > 0, at most 1,000,000,000"),
        ("RETRIES", True, "Use a whole number ≥ 0"),
        ("PROCESSES", 0, "Use a whole number > 0"),
        ("ALLOWED_NETWORKS", ["10.0.0.0/33"], "Use CIDR notation such as '10.0.0.0/8'"),
        ("ALLOWED_NETWORKS", "10.0.0.0/8", "Use a list such as ['10.0.0.0/8']."),
        ("CHECKERS", {"mine": "no.such.Class"}, "'no.such.Class' cannot be imported"),
        ("CHECKERS", {"mine": object}, "<class 'object'> cannot be imported"),
        ("CHECKERS", ["mine"], "Use a dictionary such as {'mine': 'dotted.path.Class'}."),
        ("METRICS_TOKEN", None, "Use a text."),
        ("METRICS_TOKEN", "changeme", "has 8 characters, so it could be guessed. Use at least 20:"),
        ("METRICS_TOKEN", "x", "has 1 character, so it could be guessed. Use at least 20:"),
        *(
            ("METRICS_TOKEN", token, "has characters that no header can have.")
            for token in (f"{'x' * 20}ü", f" {'x' * 20}", f"{'x' * 20}\n")
        ),
        ("PING_URL", None, "Use a text."),
        *(
            ("PING_URL", address, "Use an address like https://hc-ping.com/<uuid>.")
            for address in ("hc-ping.com/a", "ftp://hc-ping.com/a", "https://", "https://hc-ping.com/a b")
        ),
        ("API_RATE", None, "Use a text."),
        *(
            ("API_RATE", rate, "Use 100/second, 6000/minute or off.")
            for rate in ("fast", "100", "0/minute", "-1/minute", "100/fortnight", "1.5/second", "٣/minute", "/")
        ),
        ("API_PROXIES", -1, "Use a whole number ≥ 0"),
        *(
            ("PRUNE_LOGS_DAYS", days, "Use whole days from 0 (never) to 36,500.")
            for days in (-1, 1.5, float("nan"), True, 36_501, "7")
        ),
        ("EXECUTOR", "threads", "Use one of: processes, celery."),
        *(
            ("BASE_URL", address, "Use an address like https://batches.example.org.")
            for address in ("batches.example.org", "ftp://example.org", "https://", "https://a b", "https://a/?q=1")
        ),
        *(("USER_AGENT", name, "Use ASCII characters on one line") for name in ("Müller", "me\r\nX-Mine: 1")),
        ("COLOUR", "red", "Unknown keys in BATCHES: COLOUR"),
    ],
)
def test_an_invalid_setting_is_reported_with_the_correct_form(key, value, advice, settings):
    settings.BATCHES = {key: value}
    (error,) = check_config()
    assert key in error.msg
    assert advice in error.msg


def test_the_defaults_are_valid(settings):
    settings.BATCHES = {
        "RETRIES": 0,
        "API_RATE": "off",
        "API_ANONYMOUS_RATE": "10/second",
        "METRICS_TOKEN": "a token of twenty letters",
        "ALLOWED_NETWORKS": ("127.0.0.1/32", "::1/128"),
    }
    assert check_config() == []


def test_the_environment_is_read_by_the_kind_of_each_key():
    environ = {
        "BATCHES_CONCURRENCY": "7",
        "BATCHES_TIMEOUT": "2.5",
        "BATCHES_ALLOWED_NETWORKS": "10.0.0.0/8, 127.0.0.1/32",
        "BATCHES_CHECKERS": "a=x.A, b = y.B",
        "BATCHES_USER_AGENT": " me ",
        "BATCHES_RETRIES": "",
    }
    assert config_from_environment(environ) == {
        "CONCURRENCY": 7,
        "TIMEOUT": 2.5,
        "ALLOWED_NETWORKS": ("10.0.0.0/8", "127.0.0.1/32"),
        "CHECKERS": {"a": "x.A", "b": "y.B"},
        "USER_AGENT": "me",
    }


@pytest.mark.parametrize("name", ["API_RATE", "API_ANONYMOUS_RATE", "API_PROXIES"])
def test_an_old_name_of_a_limit_is_refused_with_the_new_one(name):
    with pytest.raises(ImproperlyConfigured, match=f"{name} is now BATCHES_{name}. Rename the variable."):
        config_from_environment({name: "5/minute"})


@pytest.mark.parametrize(
    ("name", "text", "form"),
    [
        ("BATCHES_CONCURRENCY", "many", "a whole number"),
        ("BATCHES_CHECKERS", "nothing", "name=dotted.path.Class"),
        ("BATCHES_LEASE_SECONDS", "nan", "a number"),
        ("BATCHES_LONGEST_REST", "1e12", "a number"),
        ("BATCHES_TIMEOUT", "inf", "a number"),
    ],
)
def test_an_invalid_variable_of_the_environment_is_named_with_the_correct_form(name, text, form):
    with pytest.raises(ImproperlyConfigured, match=f"{name}='{text}' is not valid. Use {form}"):
        config_from_environment({name: text})


class ReplicaForReading:
    """The app reads under locks, and its next statements rely on these reads."""

    def db_for_read(self, model, **hints):
        return "other"


def test_a_project_that_the_app_cannot_work_with_is_reported_with_the_remedy(settings, monkeypatch):
    before = run_checks(tags=[checks.TAG])
    settings.USE_TZ, settings.DATABASE_ROUTERS = False, [ReplicaForReading()]
    monkeypatch.setattr(checks, "NEEDED_APPS", ("no.such.app",))
    monkeypatch.setattr(checks, "get_user_model", lambda: Queue)  # without permissions
    problems = {problem.id: problem for problem in run_checks(tags=[checks.TAG]) if problem not in before}
    assert problems.keys() == {"batches.E004", "batches.E005", "batches.E006", "batches.E007"}
    assert problems["batches.E004"].hint == 'Add "no.such.app" to INSTALLED_APPS.'
    assert problems["batches.E005"].hint == "Set USE_TZ = True."
    assert problems["batches.E006"].msg.startswith("The user model batches.Queue lacks permissions")
    assert "batches.Batch, batches.BatchLog" in problems["batches.E007"].msg


def test_a_missing_celery_is_reported_with_the_command_that_installs_it(settings, monkeypatch):
    settings.BATCHES = {"EXECUTOR": "celery"}
    assert check_executor() == []
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    (error,) = check_executor()
    assert (error.id, error.hint) == ("batches.E008", "Run: python -m pip install -r requirements-celery.txt")
    settings.BATCHES = {}
    assert check_executor() == []


def test_an_sqlite_that_is_too_old_and_transactions_that_start_without_the_lock_are_reported(monkeypatch):
    monkeypatch.setattr(connection, "vendor", "sqlite")
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"transaction_mode": "IMMEDIATE"})
    assert check_sqlite() == []
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"timeout": 20})
    (warning,) = check_sqlite()
    assert (warning.id, '"transaction_mode": "IMMEDIATE"' in warning.hint) == ("batches.W001", True)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    assert [error.id for error in check_sqlite()] == ["batches.E003"]
    monkeypatch.setattr(connection, "vendor", "postgresql")
    assert check_sqlite() == []


@pytest.mark.parametrize(
    ("version", "is_reported"),
    [((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 53, 0), False)],
)
def test_an_sqlite_with_the_wal_reset_bug_is_reported_to_those_who_deploy(version, is_reported, monkeypatch, settings):
    settings.BATCHES = {"BASE_URL": "https://batches.example.org"}
    monkeypatch.setattr(connection, "vendor", "sqlite")
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    found = [run_checks(None, ["database"], deploys, ["default"]) for deploys in (False, True)]
    assert [[warning.id for warning in report] for report in found] == [[], ["batches.W002"] if is_reported else []]
    assert check_wal_reset_bug(databases=None) == []


@pytest.mark.django_db
def test_subscriptions_without_an_address_for_their_links_are_reported(settings):
    assert check_base_url(databases=["default"]) == []
    subscribe(make_list())
    (warning,) = check_base_url(databases=["default"])
    assert (warning.id, "BATCHES_BASE_URL" in warning.msg) == ("batches.W003", True)
    assert check_base_url(databases=None) == []
    settings.BATCHES = {"COLOUR": "red"}  # batches.E001 reports it
    assert [warning.id for warning in check_base_url(databases=["default"])] == ["batches.W003"]
    settings.BATCHES = {"BASE_URL": "https://batches.example.org/site"}
    assert check_base_url(databases=["default"]) == []


def test_an_object_without_a_text_gets_the_name_of_its_type():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    assert clean_text(Mute(), 100) == "<Mute without a text>"


def test_a_duration_has_at_most_two_units():
    texts = {0.4: "0 s", 59: "59 s", 60: "1 min 00 s", 3700: "1 h 01 min", 360000: "100 h 00 min"}
    assert {seconds: format_duration(seconds) for seconds in texts} == texts

"""The settings of the app: the `BATCHES` dictionary of the Django settings, with the defaults below."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from . import __version__
from .limits import MAX_DAYS
from .text import pluralise

BUILT_IN_CHECKERS = {
    "feed": "batches.checking.checkers.feed.FeedChecker",
    "http": "batches.checking.checkers.http.HttpChecker",
}

EXECUTORS = ("processes", "celery")

ZERO_ALLOWED = frozenset(
    ("retries", "max_retry_after", "max_redirects", "grace_seconds", "rest_after", "outage_share", "api_proxies")
)

#: The cores that this process can use: in a container, fewer than the machine has.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

#: Of seconds, 31 years: so that a time after them is in the calendar. More than that is a mistake.
MAX_NUMBER = 1_000_000_000
#: Minimum characters of a secret.
MIN_TOKEN = 20
RANDOM_TEXT = "python3 -c 'import secrets; print(secrets.token_urlsafe())'"

RATE = re.compile(r"off|[1-9][0-9]{0,8}/(second|minute|hour|day)", re.ASCII)
PING_URL = re.compile(r"|https?://[^\s/?#]+[^\s#]*", re.IGNORECASE)
BASE_URL = re.compile(r"|https?://[^\s/?#]+(/[^\s?#]*)?", re.IGNORECASE)

#: The pattern of a text, and its form for messages.
FORMS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "executor": (re.compile("|".join(EXECUTORS)), f"one of: {', '.join(EXECUTORS)}"),
    **dict.fromkeys(("api_rate", "api_anonymous_rate", "login_rate"), (RATE, "100/second, 6000/minute or off")),
    "ping_url": (PING_URL, "an address like https://hc-ping.com/<uuid>"),
    "base_url": (BASE_URL, "an address like https://batches.example.org"),
    "user_agent": (re.compile("[ -~]*"), "ASCII characters on one line, such as example.org (ops@example.org)"),
}
#: The type of other values, and its form for messages, by the type of the default.
KINDS: Mapping[type, tuple[Any, str]] = {
    str: (str, "a text"),
    tuple: (list | tuple, "a list such as ['10.0.0.0/8']"),
    dict: (Mapping, "a dictionary such as {'mine': 'dotted.path.Class'}"),
}


@dataclass(frozen=True)
class Config:
    """Each field is a key of `BATCHES`, in capitals, and an environment variable `BATCHES_<KEY>`."""

    #: Checkers by name, as dotted paths, in addition to the built-in ones.
    checkers: Mapping[str, str] = field(default_factory=dict)
    #: Worker processes that `batchworker`, `serve` and `batch run` start: one for each core, at most four.
    processes: int = min(4, CORES)
    #: What runs the workers: processes (`batchworker`), or "celery". With Celery, `processes` counts for all machines
    #: together, and a task starts no checks after `task_seconds`.
    executor: str = "processes"
    task_seconds: float = 30.0
    #: Maximum concurrent checks of a process, and of all processes per registrable domain.
    concurrency: int = 100
    per_host: int = 2
    #: Time limits in seconds: for one address with its redirects and retries, and for a whole check, which may fetch
    #: several. Half of the first is for the connection. Waits for our own resources do not count.
    timeout: float = 20.0
    check_timeout: float = 120.0
    #: Retries after a transient error.
    retries: int = 2
    #: Seconds that a batch with nothing left but paused hosts waits for its next result. Then their profiles fail.
    max_retry_after: float = 120.0
    max_redirects: int = 5
    #: Maximum bytes of a body after decompression.
    max_body: int = 5_000_000
    user_agent: str = f"batches/{__version__} (checks public feeds for new stories)"
    #: Networks that checks may connect to although they are not public, as CIDR ("127.0.0.0/8").
    allowed_networks: tuple[str, ...] = ()
    #: Seconds without a heartbeat after which another worker takes over a run.
    lease_seconds: float = 30.0
    #: Takeovers without progress after which a batch goes to `error`.
    max_takeovers: int = 3
    #: Failures in a row after which scheduled runs leave a profile out for a while (0: never): first for `first_rest`
    #: seconds, then twice as long after each further failure, up to `longest_rest`. One success ends it.
    rest_after: int = 3
    first_rest: float = 21_600.0
    longest_rest: float = 604_800.0
    #: A worker assumes an outage of our own if more than this share of the latest checks could not connect, and none of
    #: a few hosts that answered last time answers now. `outage_window` is the number of checks, `outage_hosts` the
    #: minimum number of hosts among them. It probes `outage_probes` hosts every `outage_seconds`, and continues when
    #: one answers. A share of 0 or 1 and more: never.
    outage_share: float = 0.6
    outage_window: int = 200
    outage_hosts: int = 20
    outage_probes: int = 5
    outage_seconds: float = 15.0
    #: Seconds between two polls of an idle worker.
    poll_seconds: float = 1.0
    #: Seconds that running checks have to finish after SIGTERM.
    grace_seconds: float = 10.0
    #: After how many days the worker removes old rows (0: never): batches since they ended, stories
    #: since they were found (their IDs stay), entries of the log, messages since they were written, hosts since they
    #: asked for a pause, sessions since they expired, and stored responses of the API.
    prune_batches_days: int = 0
    prune_stories_days: int = 0
    prune_attempts_days: int = 0
    prune_logs_days: int = 0
    prune_deliveries_days: int = 30
    prune_hosts_days: int = 30
    prune_sessions_days: int = 7
    prune_responses_days: int = 1
    #: Maximum results per recording transaction, and maximum seconds that a result waits for others.
    record_size: int = 500
    record_seconds: float = 0.2
    #: Pending rows read per query.
    page_size: int = 2000
    #: Maximum requests to the API: of a user, and from an address without a user. "off" for no limit. Fifty clients of
    #: one user that poll once a second use half of it. Each web process counts separately, unless CACHES names a shared
    #: cache.
    api_rate: str = "6000/minute"
    api_anonymous_rate: str = "60/minute"
    #: Maximum wrong passwords, from an address and for a name. `batchproject.logins` enforces it.
    login_rate: str = "10/minute"
    #: The number of our own proxies in front of the application. Other entries in X-Forwarded-For are not trusted.
    api_proxies: int = 0
    #: The secret with which Prometheus reads /metrics. Without it, /metrics does not exist.
    metrics_token: str = ""
    #: The address of a dead man's switch, such as https://hc-ping.com/<uuid>, requested when a run starts and ends.
    ping_url: str = ""
    #: The address at which people reach the site, such as https://batches.example.org, for links in messages.
    base_url: str = ""

    @property
    def all_checkers(self) -> dict[str, str]:
        return BUILT_IN_CHECKERS | dict(self.checkers)

    def problems(self) -> list[str]:
        """One sentence for each invalid value, with the correct form."""
        problems = [
            f"BATCHES[{f.name.upper()!r}] is {value!r}. Use {form}."
            for f in fields(self)
            if (form := _find_form(f.name, value := getattr(self, f.name)))
        ]
        if problems:  # the checks below need values of the right type
            return problems
        problems = [
            f"BATCHES['ALLOWED_NETWORKS'] contains {network!r}. Use CIDR notation such as '10.0.0.0/8'."
            for network in self.allowed_networks
            if not _succeeds(ip_network, network)
        ]
        problems += [
            f"BATCHES['CHECKERS'] contains {name!r}, but {path!r} cannot be imported. Use the dotted path of a class."
            for name, path in self.checkers.items()
            if not _succeeds(import_string, path)
        ]
        if 0 < len(self.metrics_token) < MIN_TOKEN:
            length = pluralise(len(self.metrics_token), "character")
            problems.append(
                f"BATCHES['METRICS_TOKEN'] has {length}, so it could be guessed. "
                f"Use at least {MIN_TOKEN}: {RANDOM_TEXT}"
            )
        elif not re.fullmatch("([!-~]([ -~]*[!-~])?)?", self.metrics_token):
            problems.append(
                "BATCHES['METRICS_TOKEN'] has characters that no header can have. "
                f"Use ASCII, without blanks at its ends: {RANDOM_TEXT}"
            )
        return problems


DEFAULTS = Config()


def command_line(arguments: str) -> str:
    """One of our commands as people here type it: `batches …`, or with the `manage.py` of their project."""
    return f"{getattr(settings, 'PROGRAM', 'python manage.py')} {arguments}"


def celery_command() -> str:
    """The application is expected beside the project's `urls`, in a module `celery`."""
    return f"celery -A {settings.ROOT_URLCONF.rpartition('.')[0]} worker"


def worker_command() -> str:
    """The command that starts workers."""
    return celery_command() if get_config().executor == "celery" else command_line("batchworker")


def install_command(extra: str) -> str:
    """The command that installs an extra: from its file in a clone, otherwise by its name."""
    file = Path(__file__).parents[1] / f"requirements-{extra}.txt"
    if file.exists():
        return f"python -m pip install -r {file.name}"
    pip = "pipx runpip batches" if Path(sys.prefix, "pipx_metadata.json").exists() else "python -m pip"
    return f'{pip} install "batches[{extra}]"'


def get_config() -> Config:
    """The current configuration. Raises ImproperlyConfigured for unknown keys."""
    return config_from_mapping(getattr(settings, "BATCHES", {}))


def config_from_mapping(values: Mapping[str, Any]) -> Config:
    known = {f.name.upper() for f in fields(Config)}
    if unknown := sorted(set(values) - known):
        raise ImproperlyConfigured(f"Unknown keys in BATCHES: {', '.join(unknown)}. Use: {', '.join(sorted(known))}.")
    return Config(**{name.lower(): value for name, value in values.items()})


def config_from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The `BATCHES` dictionary from the variables `BATCHES_<KEY>`; without the keys that are not set."""
    for old in ("API_RATE", "API_ANONYMOUS_RATE", "API_PROXIES"):
        if environ.get(old):  # a renamed limit must not be ignored
            raise ImproperlyConfigured(f"{old} is now BATCHES_{old}. Rename the variable.")
    values = {}
    for f in fields(Config):
        name = f.name.upper()
        text = environ.get(f"BATCHES_{name}", "").strip()
        if text:
            values[name] = _parse(name, text, type(getattr(DEFAULTS, f.name)))
    return values


#: The form of a variable by the type of its setting.
VARIABLES = {
    int: "a whole number such as 0 or 90",
    float: "a number such as 0.5 or 20",
    dict: "name=dotted.path.Class, several with commas in between",
}


def _parse(name: str, text: str, kind: type) -> Any:
    items = [item.strip() for item in text.split(",") if item.strip()]
    try:
        if kind is dict:  # BATCHES_CHECKERS=name=dotted.path,other=dotted.path
            return {key.strip(): path.strip() for key, path in (item.split("=", 1) for item in items)}
        if kind is tuple:
            return tuple(items)
        value = kind(text)
        if kind is float and not abs(value) <= MAX_NUMBER:  # nor "nan", with which every comparison is false
            raise ValueError
        return value
    except ValueError as error:
        raise ImproperlyConfigured(f"BATCHES_{name}={text!r} is not valid. Use {VARIABLES[kind]}.") from error


def _find_form(name: str, value: Any) -> str:
    """The form that an invalid value should have; "" for a valid value."""
    kind = type(getattr(DEFAULTS, name))
    if name.startswith("prune_"):
        return "" if type(value) is int and 0 <= value <= MAX_DAYS else f"whole days from 0 (never) to {MAX_DAYS:,}"
    if kind in {int, float}:
        sign = "≥" if name in ZERO_ALLOWED else ">"
        is_valid = _is_number(value, kind) and (value > 0 or (value == 0 and name in ZERO_ALLOWED))
        return "" if is_valid else f"a {'whole ' if kind is int else ''}number {sign} 0, at most {MAX_NUMBER:,}"
    expected, form = KINDS[kind]
    if not isinstance(value, expected):
        return form
    pattern, form = FORMS.get(name, (None, ""))
    return form if pattern and not pattern.fullmatch(value) else ""


def _is_number(value: object, kind: type[int | float]) -> bool:
    return isinstance(value, (int, kind)) and not isinstance(value, bool) and value <= MAX_NUMBER


def _succeeds(function: Callable[[Any], object], value: object) -> bool:
    try:
        function(value)
    except (AttributeError, ImportError, ValueError):
        return False
    return True

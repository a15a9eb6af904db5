"""The app's settings: the `BATCHES` dictionary of the Django settings, over the defaults given here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_network
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

BUILT_IN_CHECKERS = {
    "feed": "batches.checking.checkers.feed.FeedChecker",
    "http": "batches.checking.checkers.http.HttpChecker",
}

MAY_BE_ZERO = {"retries", "max_retry_after", "max_redirects", "grace_seconds"}


@dataclass(frozen=True)
class Config:
    """Each field is a key of `BATCHES`, in capitals, and an environment variable `BATCHES_<KEY>`."""

    #: Checkers by name, as dotted paths; the project's own are added to the built-in ones.
    checkers: Mapping[str, str] = field(default_factory=dict)
    #: How many checks at once, in all and per host.
    concurrency: int = 100
    per_host: int = 2
    #: Seconds for one HTTP exchange, and for a whole check with its redirects, retries and waits.
    timeout: float = 20.0
    check_timeout: float = 120.0
    #: Further tries after a transient fault, and the longest `Retry-After` (seconds) that is waited for.
    retries: int = 2
    max_retry_after: float = 30.0
    max_redirects: int = 5
    #: Bytes of a body after decompression.
    max_body: int = 5_000_000
    user_agent: str = "batches/0.1 (checks public feeds for new stories)"
    #: Networks that may be reached although they are not public, as CIDR ("127.0.0.0/8").
    allowed_networks: tuple[str, ...] = ()
    #: Seconds a run may stay silent before another worker takes it over.
    lease_seconds: float = 30.0
    #: Take-overs without progress after which a batch goes to `error`.
    max_takeovers: int = 3
    #: Seconds between two looks of an idle worker.
    poll_seconds: float = 1.0
    #: Seconds that running checks get to end after SIGTERM.
    grace_seconds: float = 10.0
    #: Results per recording transaction, and the longest (seconds) that a result waits for others.
    record_size: int = 500
    record_seconds: float = 0.2
    #: Pending rows read at once.
    page_size: int = 2000

    @property
    def all_checkers(self) -> dict[str, str]:
        return BUILT_IN_CHECKERS | dict(self.checkers)

    def problems(self) -> list[str]:
        """One sentence for each value that cannot be used, with what to write instead."""
        numbers = [(f.name, getattr(self, f.name)) for f in fields(self) if isinstance(f.default, int | float)]
        found = [
            f"BATCHES[{name.upper()!r}] is {value!r}: write a number above {'-1' if name in MAY_BE_ZERO else '0'}."
            for name, value in numbers
            if not _is_number(value) or value < 0 or (value == 0 and name not in MAY_BE_ZERO)
        ]
        found += [
            f"BATCHES['ALLOWED_NETWORKS'] has {network!r}: write a network such as '10.0.0.0/8'."
            for network in self.allowed_networks
            if not _can(ip_network, network)
        ]
        found += [
            f"BATCHES['CHECKERS'] has {name!r}: there is no class {path!r} to import."
            for name, path in self.checkers.items()
            if not _can(import_string, path)
        ]
        return found


def get_config() -> Config:
    """The configuration in force. Raises ImproperlyConfigured for keys that do not exist."""
    return config_from_mapping(getattr(settings, "BATCHES", {}))


def config_from_mapping(values: Mapping[str, Any]) -> Config:
    known = {f.name.upper() for f in fields(Config)}
    if unknown := sorted(set(values) - known):
        raise ImproperlyConfigured(
            f"BATCHES has no key {', '.join(unknown)}. The keys are: {', '.join(sorted(known))}."
        )
    return Config(**{name.lower(): value for name, value in values.items()})


def config_from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The `BATCHES` dictionary from variables `BATCHES_<KEY>`; keys that are not set are left to the defaults."""
    values = {}
    for f in fields(Config):
        name = f.name.upper()
        text = environ.get(f"BATCHES_{name}", "").strip()
        if text:
            values[name] = _parse(name, text, type(getattr(Config(), f.name)))
    return values


def _parse(name: str, text: str, kind: type) -> Any:
    items = [item.strip() for item in text.split(",") if item.strip()]
    try:
        if kind is dict:  # BATCHES_CHECKERS=name=dotted.path,other=dotted.path
            return {key.strip(): path.strip() for key, path in (item.split("=", 1) for item in items)}
        if kind is tuple:
            return tuple(items)
        return _require_finite(kind(text))
    except ValueError as error:
        raise ImproperlyConfigured(f"BATCHES_{name}={text!r} cannot be read as {kind.__name__}.") from error


def _require_finite(value: Any) -> Any:
    """A float that is "nan" or "inf" is refused: no comparison with the one holds, and the other is never over."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _can(function: Callable[[str], object], value: str) -> bool:
    try:
        function(value)
    except (ValueError, ImportError):
        return False
    return True

"""The hosts of profiles: the failing ones, their response times, and the pauses that they have asked for. Reads only.

All figures come from the last check of each profile. Counting the profiles of every host would read all profiles. So
the list contains hosts with failing profiles, which have an index, and reads the other figures only for the hosts on
the page. A search finds any other host by its name.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any, NamedTuple

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce, Now

from batches.lists.addresses import DEFAULT_PORTS, InvalidAddress, address_prefixes, host_of
from batches.lists.domains import domain_of
from batches.models import ByBytes, Host, HostOf, Profile
from batches.queue.sql import PROFILE, as_json, fetch_all, is_postgresql, json_table, read_time
from batches.text import clean_text

from .queries import starts_with

#: Counting the profiles of a host stops at this number.
MOST_COUNTED = 100_000
#: The number of profiles of a host from which the median is taken.
SAMPLE = 200

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class HostFigures:
    """A host with its port, if its addresses have one. `pause` is what its registrable domain has asked for."""

    host: str
    profiles: int
    failing: int
    median_seconds: float | None
    last_error: str
    last_failed_at: datetime | None
    pause: Host | None

    @property
    def failing_percent(self) -> float | None:
        """None if it is not known, because it has too many profiles."""
        return None if self.has_more else 100 * self.failing / self.profiles

    @property
    def paused_until(self) -> datetime | None:
        return self.pause.not_before if self.pause else None

    @property
    def has_more(self) -> bool:
        return self.profiles >= MOST_COUNTED


@dataclass(frozen=True, slots=True)
class FailingHosts:
    """The hosts with the most failing profiles first, and the number of hosts that match."""

    hosts: Sequence[HostFigures]
    total: int


def find_failing_hosts(limit: int, search: str = "") -> FailingHosts:
    """At most `limit` hosts.

    A search for the exact name of a host returns it first, even if none of its profiles fails.
    """
    failing = failing_with_hosts()
    part = clean_text(search, len(search)).strip().lower()
    found, total, _ = group_by_host(failing.filter(host__contains=part) if part else failing, limit)
    if (name := as_host(search)) and name not in found:  # none of its profiles fails, or others fail more
        found = {name: failing.filter(host=name).count(), **found}
    figures = read_figures(found)
    is_fine = bool(figures) and not figures[0].failing
    return FailingHosts(figures[:limit], max(total + is_fine, len(figures)))


def count_failing_up_to(most: int, limit: int) -> tuple[dict[str, int], int] | None:
    """The number of failing profiles by host, and of failing hosts; None if more than `most` profiles fail.

    It reads no more than these.
    """
    counts, hosts, profiles = group_by_host(failing_with_hosts()[: most + 1], limit)
    return None if profiles > most else (counts, hosts)


def group_by_host(failing: QuerySet[Any], limit: int) -> tuple[dict[str, int], int, int]:
    """The number of these profiles by host, of at most `limit` hosts; the total numbers of hosts and of profiles."""
    hosts, parameters = failing.values("host").query.sql_with_params()
    rows = fetch_all(
        f"""SELECT host, COUNT(*), COUNT(*) OVER (), SUM(COUNT(*)) OVER () FROM ({hosts}) AS failing
             GROUP BY host ORDER BY 2 DESC, host LIMIT {limit}""",
        parameters,
    )
    hosts_in_all, profiles = rows[0][2:] if rows else (0, 0)
    return {host: count for host, count, *_ in rows}, hosts_in_all, int(profiles)


def failing_with_hosts() -> QuerySet[Any]:
    return Profile.objects.failing().order_by().annotate(host=HostOf("url"))


def as_host(text: str) -> str | None:
    """The normalised name of a host; None if the text is not a valid host."""
    try:
        return host_of(address_prefixes(text.strip())[0]) if text.strip() else None
    except InvalidAddress:
        return None


def find_pauses(limit: int) -> list[Host]:
    """Hosts that get no request now, or fewer than others, the longest pause first."""
    return list(
        Host.objects.filter(Q(not_before__gt=Now()) | Q(interval__gt=0)).order_by("-not_before", "name")[:limit]
    )


def read_figures(failing: Mapping[str, int]) -> list[HostFigures]:
    """The figures of these hosts (failing profiles by host) in this order, without hosts that have no profile."""
    asked = Host.objects.filter(name__in=set(map(domain_of_host, failing)), not_before__gt=Now())
    pauses, answers = {pause.name: pause for pause in asked}, defaultdict[str, list[Answers]](list)
    for found in look_up(failing):
        answers[found.host].append(found)
    figures = [combine(answers[host], failing[host], pauses.get(domain_of_host(host))) for host in failing]
    return [each for each in figures if each.profiles]


def combine(answers: Sequence["Answers"], failing: int, pause: Host | None) -> HostFigures:
    """The figures of a host, from its profiles by http and by https."""
    last = max(answers, key=lambda each: each.last_failed_at or NEVER)
    durations = [seconds for each in answers for seconds in each.durations]
    profiles = min(sum(each.profiles for each in answers), MOST_COUNTED)
    middle = median(durations) if durations else None
    return HostFigures(last.host, profiles, failing, middle, last.last_error, last.last_failed_at, pause)


def domain_of_host(host: str) -> str:
    return domain_of(f"https://{host}/")


def at_host(profiles: QuerySet[Profile], host: str) -> QuerySet[Profile]:
    """The profiles at this host, in the order of their addresses. Raises InvalidAddress.

    Usually only one of its prefixes occurs, such as "https://example.org/". Then PostgreSQL counts with the index only,
    and a page is a range of it: 21 and 1 instead of 119 and 200 ms for 200,000. For several ranges it would walk along
    all addresses, so these are sorted by an expression without an index.
    """
    prefixes = address_prefixes(host)
    found = [prefix for prefix in prefixes if Profile.objects.filter(starts_with("url", prefix)).exists()]
    if not found:
        return profiles.none()
    address = F("url") if len(found) == 1 else Coalesce("url", "url")
    condition = Q(*(starts_with("url", prefix) for prefix in found), _connector=Q.OR)
    return profiles.filter(condition).order_by(ByBytes(address))


# The figures of each host, in one statement


class Answers(NamedTuple):
    """The answers of the profiles of a host, by one scheme."""

    host: str
    profiles: int
    durations: Sequence[float]
    last_error: str
    last_failed_at: datetime | None


#: The addresses with the prefix "https://example.org/" are between it and "https://example.org0".
RANGE = {"host": "text", "first": "text", "last": "text"}


def look_up(hosts: Iterable[str]) -> Iterator[Answers]:
    """Yield for each host one by http and one by https.

    Each is a range of an index, of all profiles and of failing ones.
    """
    # PostgreSQL has an index for these operators. LIKE could not use it with a pattern from another row.
    at_least, below = ("~>=~", "~<~") if is_postgresql() else (">=", "<")
    own = f"FROM {PROFILE} AS profile WHERE profile.url {at_least} wanted.first AND profile.url {below} wanted.last"
    as_list, as_array = ("json_agg", "json_build_array") if is_postgresql() else ("json_group_array", "json_array")
    rows = fetch_all(
        f"""SELECT wanted.host,
                   (SELECT COUNT(*) FROM (SELECT 1 {own} LIMIT {MOST_COUNTED}) AS counted),
                   (SELECT CAST({as_list}(seconds) AS text)
                      FROM (SELECT last_duration AS seconds {own} LIMIT {SAMPLE}) AS sample),
                   (SELECT CAST({as_array}(last_error, last_checked_at) AS text) {own} AND NOT (last_error = '')
                     ORDER BY last_checked_at DESC LIMIT 1)
              FROM {json_table(RANGE)} AS wanted""",
        [as_json([(host, f"{scheme}://{host}/", f"{scheme}://{host}0") for host in hosts for scheme in DEFAULT_PORTS])],
    )
    for host, profiles, durations, last in rows:
        known = [seconds for seconds in json.loads(durations or "[]") if seconds is not None]
        error, moment = json.loads(last) if last else ("", None)
        yield Answers(host, profiles, known, error, read_time(moment))

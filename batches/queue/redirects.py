"""Notes permanent redirects with the results of checks. `redirect_calls` accepts them."""

import json
from collections.abc import Mapping

from batches.checking.checkers.base import CheckResult
from batches.lists.addresses import InvalidAddress, normalise_address
from batches.models import Redirect

from .sql import PROFILE, as_json, execute, is_postgresql, json_table, now, time_parameter

REDIRECT = Redirect._meta.db_table
SEEN = {"profile_id": "bigint", "url": "text"}


def note_redirects(results: Mapping[int, CheckResult]) -> None:
    """Note the redirect targets of profiles, and forget ended redirects.

    Ignores checks that did not fetch the address.
    """
    asked = {profile_id: result.moved_to for profile_id, result in results.items() if result.moved_to is not None}
    if moved := [(profile_id, url) for profile_id, url in asked.items() if url]:
        execute(
            f"""INSERT INTO {REDIRECT} AS known (profile_id, url, checks, first_seen_at, last_seen_at)
                SELECT profile.id, seen.url, 1, {time_parameter()}, {time_parameter()}
                  FROM {json_table(SEEN)} AS seen JOIN {PROFILE} AS profile ON profile.id = seen.profile_id
                 WHERE profile.url <> seen.url
                    ON CONFLICT (profile_id) DO UPDATE
                   SET checks = CASE WHEN known.url = excluded.url THEN known.checks + 1 ELSE 1 END,
                       first_seen_at = CASE WHEN known.url = excluded.url
                                            THEN known.first_seen_at ELSE excluded.first_seen_at END,
                       url = excluded.url, last_seen_at = excluded.last_seen_at""",
            [now(), now(), as_json(moved)],
        )
    if stayed := [profile_id for profile_id, url in asked.items() if not url]:
        # Not as a `json_table`: these are nearly all results, and it took an eighth of the time of recording.
        if is_postgresql():
            execute(f"DELETE FROM {REDIRECT} WHERE profile_id = ANY (%s)", [stayed])
        else:
            wanted = "(SELECT value FROM json_each(%s))"
            execute(f"DELETE FROM {REDIRECT} WHERE profile_id IN {wanted}", [json.dumps(stayed)])


def clean_moved_to(url: str | None) -> str | None:
    """The normalised target; "" if it cannot be the address of a profile."""
    try:
        return normalise_address(url) if url else url
    except InvalidAddress:
        return ""

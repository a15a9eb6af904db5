"""The checker "feed": fetches a profile's feed, finds it through the page if necessary, and reads its stories."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from traceback import clear_frames
from typing import Self

from batches.limits import MAX_VALIDATOR

from .base import CheckResult, FetchError, NoAnswer, ProfileToCheck
from .dates import parse_date
from .fetch import FetchingChecker, Response
from .parsers import Parsers
from .reading import Body, Reading, Unreadable

# After these errors, the page is searched again for its feed. Permanent faults without an error status count as well.
GONE = frozenset({401, 403, 404, 410})
NONE: Mapping[str, FetchError] = {}
# A server's clock may be ahead, and its date may have no zone.
CLOCK_DIFFERENCE = timedelta(days=1)
CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.ASCII | re.IGNORECASE)
# It is sent back as the value of a header, so it must be valid there.
VALIDATOR = re.compile(rf"[!-~](?:[ -~]{{0,{MAX_VALIDATOR - 2}}}[!-~])?")


class FeedChecker(FetchingChecker):
    async def __aenter__(self) -> Self:
        self._parsers = Parsers()
        return await super().__aenter__()

    async def __aexit__(self, *exc_info: object) -> None:
        await super().__aexit__(*exc_info)
        self._parsers.close()

    async def fetch_result(self, profile: ProfileToCheck) -> CheckResult:
        if not profile.feed_url:
            return await self._check_page(profile, find_validators(profile), NONE)
        try:
            response = await self.fetch(profile.feed_url, find_validators(profile))
            return await self._evaluate(response, profile.feed_url, profile, NONE)
        except FetchError as error:
            if not is_dead(error):
                raise
            # The page may declare the feed's new address. The validators belong to the old feed.
            return await self._check_page(profile, {}, {profile.feed_url: error})

    async def _check_page(
        self, profile: ProfileToCheck, validators: Mapping[str, str], dead: Mapping[str, FetchError]
    ) -> CheckResult:
        response = await self.fetch(profile.url, validators)
        return await self._evaluate(response, profile.url, profile, dead, response.moved_to)

    async def _evaluate(
        self,
        response: Response,
        url: str,
        profile: ProfileToCheck,
        dead: Mapping[str, FetchError],
        moved_to: str | None = None,
    ) -> CheckResult:
        """Read the response of `url`: a feed, or a page that leads to a feed. `dead` feeds do not count."""
        for _ in range(self.config.max_redirects + 1):
            if response.status == 304:
                return make_unchanged(response, moved_to)
            body = make_body(response)
            fingerprint = await self._parsers.compute_fingerprint(body)
            is_known = fingerprint == profile.fingerprint
            reading = Reading() if is_known else await self._read(body, response)
            page = reading.page
            if page is None:
                return make_result(response, reading, fingerprint, find_change(profile, url), moved_to)
            if page.feeds:
                result = await self._fetch_declared(page.feeds, dead)
                return result._replace(moved_to=moved_to)
            if not page.refresh:
                raise FetchError("the page declares no feed", response.status)
            url = page.refresh
            response = await self.fetch(url)
        raise FetchError(f"redirected too many times (limit: {self.config.max_redirects})")

    async def _fetch_declared(self, feeds: Sequence[str], dead: Mapping[str, FetchError]) -> CheckResult:
        """Return the result of the first feed that can be read."""
        failures = []
        for feed_url in feeds:
            try:
                if error := dead.get(feed_url):
                    raise error
                return await self._fetch_feed(feed_url)
            except FetchError as error:
                failures.append(error.with_traceback(None))  # which would keep the response
        raise FetchError(f"its feed: {failures[0]}", failures[0].http_status) from failures[0]

    async def _fetch_feed(self, feed_url: str) -> CheckResult:
        response = await self.fetch(feed_url)
        body = make_body(response)._replace(is_feed=True)
        fingerprint = await self._parsers.compute_fingerprint(body)
        return make_result(response, await self._read(body, response), fingerprint, feed_url)

    async def _read(self, body: Body, response: Response) -> Reading:
        try:
            return await self._parsers.read(body)
        except Unreadable as error:
            clear_frames(error.__traceback__)  # futures and frames that refer to each other would keep the document
            limit = self.config.max_body / 1e6
            sentence = f"the body is larger than {limit:g} MB" if response.is_cut else str(error)
            raise FetchError(sentence, response.status) from None


def is_dead(error: FetchError) -> bool:
    """Whether a feed is gone permanently, or is no longer a feed."""
    is_status = error.http_status is not None and error.http_status >= 400
    return error.http_status in GONE if is_status else not (error.transient or isinstance(error, NoAnswer))


def find_validators(profile: ProfileToCheck) -> dict[str, str]:
    """The headers of a conditional request."""
    validators = {"If-None-Match": profile.etag} if profile.etag else {}
    if profile.last_modified:
        date = parse_date(profile.last_modified)
        # With a date in the future, the server would hide every new story until then.
        if date is None or date <= datetime.now(UTC) + CLOCK_DIFFERENCE:
            validators["If-Modified-Since"] = profile.last_modified
    return validators


def find_change(profile: ProfileToCheck, url: str) -> str | None:
    """The feed address to remember when the feed was read from `url`; None for no change."""
    if url == (profile.feed_url or profile.url):
        return None
    return "" if url == profile.url else url


def make_body(response: Response) -> Body:
    headers = response.headers
    content_type = headers.get("Content-Type", "")
    charset = CHARSET.search(content_type)
    return Body(
        response.body,
        response.url,
        charset[1] if charset else "",
        content_type,
        is_cut=response.is_cut,
        links=headers.get("Link", ""),
        refresh=headers.get("Refresh", ""),
    )


def make_unchanged(response: Response, moved_to: str | None) -> CheckResult:
    """For a 304. It may have new validators, which replace the remembered ones (RFC 9111, 4.3.4)."""
    return CheckResult(
        ok=True,
        http_status=response.status,
        etag=read_validator(response.headers, "ETag") or None,
        last_modified=read_validator(response.headers, "Last-Modified") or None,
        moved_to=moved_to,
    )


def make_result(
    response: Response, reading: Reading, fingerprint: str, feed_url: str | None, moved_to: str | None = None
) -> CheckResult:
    return CheckResult(
        ok=True,
        http_status=response.status,
        stories=reading.stories,
        feed_url=feed_url,
        etag=read_validator(response.headers, "ETag"),
        last_modified=read_validator(response.headers, "Last-Modified"),
        fingerprint=fingerprint,
        moved_to=moved_to,
    )


def read_validator(headers: Mapping[str, str], name: str) -> str:
    """A header to send back with the next check, or empty if it cannot be sent."""
    value = headers.get(name, "")
    return value if VALIDATOR.fullmatch(value) else ""

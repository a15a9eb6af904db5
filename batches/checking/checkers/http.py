"""The checker "http", which checks whether the address responds."""

from .base import CheckResult, ProfileToCheck
from .fetch import FetchingChecker


class HttpChecker(FetchingChecker):
    """A check is ok if the final response, after redirects, is 2xx. Reads no body."""

    async def fetch_result(self, profile: ProfileToCheck) -> CheckResult:
        response = await self.fetch(profile.url, read_body=False)
        return CheckResult(True, http_status=response.status, moved_to=response.moved_to, reads_stories=False)

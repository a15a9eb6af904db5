"""Permanent redirects of profiles: lists them, and accepts some or all of them."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from batches.limits import MAX_BULK
from batches.models import Redirect
from batches.queue.redirect_calls import AcceptedRedirect
from batches.queue.refusals import NO_REDIRECT, NotFound, Refusal
from batches.reports.queries import match_host

from .access import ACCEPT, VIEW_REDIRECTS
from .batch_requests import AcceptBody
from .calls import LIST, ListViewSet, ManagerView, parse_body
from .filters import RedirectFilters
from .idempotency import sum_up
from .schema import describe
from .serializers import AcceptedSerializer, AcceptOutcomeSerializer, RedirectSerializer


class Redirects(ManagerView, ListViewSet[Redirect]):
    """List the permanent redirects that can be accepted.

    Several checks in a row, over days, have been redirected there by 301 or 308 on every hop. With `merges`, another
    profile has the new address.
    """

    required_permissions = {"list": VIEW_REDIRECTS, "accept": ACCEPT}
    serializer_class = RedirectSerializer
    filterset_class = RedirectFilters

    def get_queryset(self) -> QuerySet[Redirect]:
        return Redirect.objects.proposed()

    @describe(request=AcceptBody, responses={200: AcceptedSerializer})
    def accept(self, request: Request) -> Response:
        """Give profiles the addresses that they redirect to.

        This changes every list; their checks and their stories are kept. If another profile has the new address, it
        replaces the old one and receives its stories. With `dry_run` the response only reports what would change.
        """
        body = parse_body(AcceptBody, request)
        if body["dry_run"]:
            chosen, left = self.choose(body)
            return Response(sum_up([render(pk, plan(pk, found)) for pk, found in chosen], left))
        return self.run_steps_once(lambda: self.select(body), lambda items: nullcontext(partial(self.run, items)))

    def choose(self, body: dict[str, Any]) -> tuple[list[tuple[int, Redirect | None]], int]:
        """The chosen redirects by ID, and how many are left."""
        redirects = self.get_queryset()
        if "ids" in body:
            by_id = redirects.in_bulk(body["ids"])
            return [(pk, by_id.get(pk)) for pk in dict.fromkeys(body["ids"])], 0
        if "host" in body:
            redirects = redirects.filter(match_host("profile__url", body["host"]))
        chosen: list[tuple[int, Redirect | None]] = [(found.pk, found) for found in redirects[:MAX_BULK]]
        return chosen, redirects.count() - len(chosen)

    def select(self, body: dict[str, Any]) -> tuple[list[tuple[int, str]], int]:
        """Their IDs with the new addresses, and how many are left."""
        chosen, left = self.choose(body)
        return [(pk, found.url if found else "") for pk, found in chosen], left

    def run(self, items: Sequence[tuple[int, str]]) -> list[Any]:
        return [render(pk, self.manager.accept_redirect(pk, expected_url=url)) for pk, url in items]


def render(pk: int, result: AcceptedRedirect | Refusal) -> Any:
    return AcceptOutcomeSerializer({"id": pk, "result": result}).data


def plan(pk: int, found: Any) -> AcceptedRedirect | Refusal:
    """The effect of accepting it."""
    if found is None:
        return NotFound(pk, NO_REDIRECT).refusal
    return AcceptedRedirect(found.target_id or found.profile_id, found.profile.url, found.url, found.merges)


urls = [
    path("redirects/", Redirects.as_view(LIST), name="redirects"),
    path("redirects/accept/", Redirects.as_view({"post": "accept"}), name="redirects-accept"),
]

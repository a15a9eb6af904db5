"""Permanent redirects of profiles: lists them, and accepts some or all of them."""

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
from .schema import describe
from .serializers import AcceptedSerializer, RedirectSerializer


class Redirects(ManagerView, ListViewSet[Redirect]):
    """List the permanent redirects that can be accepted.

    Several checks in a row, over days, have been redirected there by 301 or 308 on every hop. With `merges`, another
    profile has the new address.
    """

    required_permissions = {"list": VIEW_REDIRECTS, "accept": ACCEPT}
    queryset = Redirect.objects.proposed()
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
        redirects = self.select(body)
        chosen = list(redirects[:MAX_BULK])
        left = redirects.count() - len(chosen)
        if body["dry_run"]:
            return self.respond(body, left, {found.pk: plan(found) for found in chosen})
        return self.run_once(lambda: self.respond(body, left, self.accept_all(chosen)))

    def select(self, body: dict[str, Any]) -> QuerySet[Redirect]:
        redirects = self.get_queryset()
        if "ids" in body:
            return redirects.filter(pk__in=body["ids"])
        return redirects.filter(match_host("profile__url", body["host"])) if "host" in body else redirects

    def accept_all(self, chosen: list[Redirect]) -> dict[int, AcceptedRedirect | Refusal]:
        results = self.manager.accept_redirects(chosen)
        return {found.pk: result for found, result in zip(chosen, results, strict=True)}

    def respond(self, body: dict[str, Any], left: int, results: dict[int, AcceptedRedirect | Refusal]) -> Response:
        outcomes = [
            {"id": pk, "result": results[pk] if pk in results else NotFound(pk, NO_REDIRECT).refusal}
            for pk in body.get("ids", results)
        ]
        done = sum(bool(outcome["result"]) for outcome in outcomes)
        facts = {"done": done, "refused": len(outcomes) - done, "left": left, "outcomes": outcomes}
        return Response(AcceptedSerializer(facts).data)


def plan(found: Any) -> AcceptedRedirect:
    """The effect of accepting it."""
    return AcceptedRedirect(found.target_id or found.profile_id, found.profile.url, found.url, found.merges)


urls = [
    path("redirects/", Redirects.as_view(LIST), name="redirects"),
    path("redirects/accept/", Redirects.as_view({"post": "accept"}), name="redirects-accept"),
]

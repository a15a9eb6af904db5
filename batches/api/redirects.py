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
from batches.reports.queries import match_host

from .access import ACCEPT, VIEW_REDIRECTS
from .batch_requests import AcceptBody
from .calls import LIST, ListViewSet, ManagerView, parse_body
from .filters import RedirectFilters
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
        replaces the old one and receives its stories.
        """
        body = parse_body(AcceptBody, request)
        return self.run_steps_once(lambda: self.select(body), lambda items: nullcontext(partial(self.run, items)))

    def select(self, body: dict[str, Any]) -> tuple[list[tuple[int, str]], int]:
        """The IDs of the chosen redirects with their new addresses, and how many are left."""
        redirects = self.get_queryset()
        if "ids" in body:
            addresses = dict(redirects.filter(pk__in=body["ids"]).values_list("pk", "url"))
            return [(pk, addresses.get(pk, "")) for pk in dict.fromkeys(body["ids"])], 0
        if "host" in body:
            redirects = redirects.filter(match_host("profile__url", body["host"]))
        chosen = list(redirects.values_list("pk", "url")[:MAX_BULK])
        return chosen, redirects.count() - len(chosen)

    def run(self, items: Sequence[tuple[int, str]]) -> list[Any]:
        results = [{"id": pk, "result": self.manager.accept_redirect(pk, expected_url=url)} for pk, url in items]
        return list(AcceptOutcomeSerializer(results, many=True).data)


urls = [
    path("redirects/", Redirects.as_view(LIST), name="redirects"),
    path("redirects/accept/", Redirects.as_view({"post": "accept"}), name="redirects-accept"),
]

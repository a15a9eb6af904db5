"""Subscriptions: who is notified about a list. Needs the permission to change lists."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from batches.models import Subscription
from batches.queue.refusals import Code, require_granted
from batches.queue.subscription_calls import find_subscription

from .access import CHANGE_LIST
from .calls import LIST, ManagerView, OneThing, parse_body
from .conditional import matching
from .filters import SubscriptionFilters
from .list_requests import ChangeSubscriptionBody, SubscribeBody, SubscribeToQueueBody
from .lists import RowsOfList
from .request_fields import NothingBody
from .schema import conflict, describe
from .serializers import SubscriptionSerializer


class ListSubscriptions(ManagerView, RowsOfList[Subscription]):
    """List the subscriptions of a list.

    The oldest comes first.
    """

    required_permissions = {"list": CHANGE_LIST, "create": CHANGE_LIST}
    queryset = Subscription.objects.select_related("webhook").order_by("created_at", "pk")
    serializer_class = SubscriptionSerializer
    filterset_class = SubscriptionFilters

    @describe(request=SubscribeBody, responses={201: SubscriptionSerializer} | conflict(Code.ALREADY_EXISTS))
    def create(self, request: Request, pk: str) -> Response:
        """Subscribe to a list.

        Messages go to an e-mail address, or to a webhook that exists. An address subscribes to a list once.
        """
        return self.subscribe(pk, parse_body(SubscribeBody, request))

    def subscribe(self, pk: str | None, fields: dict[str, Any]) -> Response:
        def call() -> Response:
            made = require_granted(self.manager.subscribe(pk, **fields))
            return self.respond_created("subscription", made, self.get_serializer(made).data)

        return self.run_once(call)


class QueueSubscriptions(ListSubscriptions):
    """List the subscriptions of the queue.

    The oldest comes first.
    """

    def get_queryset(self) -> QuerySet[Subscription]:
        return self.queryset.filter(list=None)

    @describe(request=SubscribeToQueueBody, responses={201: SubscriptionSerializer} | conflict(Code.ALREADY_EXISTS))
    def create(self, request: Request) -> Response:  # type: ignore[override]
        """Subscribe to the queue.

        Its topics are `held` and `no_worker`, each after some minutes.
        """
        return self.subscribe(None, parse_body(SubscribeToQueueBody, request))


class Subscriptions(OneThing[Subscription]):
    required_permissions = dict.fromkeys(("retrieve", "partial_update", "destroy", "test"), CHANGE_LIST)
    find = staticmethod(find_subscription)
    kind = "subscription"
    queryset = Subscription.objects.all()
    serializer_class = SubscriptionSerializer

    def retrieve(self, request: Request, pk: str) -> HttpResponseBase:
        """Get a subscription."""
        return self.respond_with_etag(request, pk)

    @describe(request=ChangeSubscriptionBody)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change a subscription."""
        changes = parse_body(ChangeSubscriptionBody, request)
        with matching(request, lambda: self.render(pk)):
            require_granted(self.manager.change_subscription(pk, **changes))
        return self.respond(pk)

    def destroy(self, request: Request, pk: str) -> Response:
        """End a subscription.

        Waiting messages are not sent.
        """
        with matching(request, lambda: self.render(pk)):
            require_granted(self.manager.unsubscribe(pk))
        return Response(status=204)

    @describe(request=NothingBody, responses={200: SubscriptionSerializer})
    def test(self, request: Request, pk: str) -> Response:
        """Send a test message to a subscription.

        A worker sends it within seconds, with the same retries as other messages.
        """
        parse_body(NothingBody, request)
        return self.run_once(lambda: self.respond(pk, require_granted(self.manager.send_test_message(pk))))


OF_LIST: dict[str, Any] = LIST | {"post": "create"}
ONE: dict[str, Any] = {"get": "retrieve", "patch": "partial_update", "delete": "destroy"}

urls = [
    path("lists/<str:pk>/subscriptions/", ListSubscriptions.as_view(OF_LIST), name="list-subscriptions"),
    path("queue/subscriptions/", QueueSubscriptions.as_view(OF_LIST), name="queue-subscriptions"),
    path("subscriptions/<str:pk>/", Subscriptions.as_view(ONE), name="subscription-detail"),
    path("subscriptions/<str:pk>/test/", Subscriptions.as_view({"post": "test"}), name="subscription-test"),
]

"""How hosts respond, by the last check of each of their profiles."""

from typing import Any

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from batches.models import Host

from .access import VIEW_HOSTS
from .base import BaseView
from .filters import HostFilters
from .schema import describe
from .serializers import HostsSerializer


class Hosts(BaseView, GenericViewSet[Host]):
    """The hosts with the most failing profiles. They are not paginated: search for the others."""

    required_permissions = {"retrieve": VIEW_HOSTS}
    queryset = Host.objects.none()
    serializer_class = HostsSerializer
    filterset_class = HostFilters
    filtered = frozenset({"retrieve"})
    pagination_class = None

    @describe(responses={200: HostsSerializer}, filters=True)
    def retrieve(self, request: Request) -> Response:
        """List the hosts with the most failing profiles.

        All figures are from the last check of each profile. `search` also finds the host with exactly that name if none
        of its profiles fails.
        """
        found: Any = self.filter_queryset(self.get_queryset())
        return Response(self.get_serializer(found).data)


urls = [path("hosts/", Hosts.as_view({"get": "retrieve"}), name="hosts")]

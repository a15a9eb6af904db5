"""Feeds of the new stories of lists: creates their addresses, and responds to feed readers."""

from typing import Any

from django.http import HttpResponse, HttpResponseBase
from django.urls import get_script_prefix, path
from django.utils.cache import patch_cache_control
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from batches.lists.feeds import FEEDS, write_feed
from batches.models import ListFeed
from batches.models.keys import digest_of
from batches.queue.feeds import NewFeed
from batches.queue.refusals import Code, Refusal, require_granted
from batches.queue.values import as_uuid
from batches.reports.new_stories import fetch_new_stories
from batches.web.feeds import addresses_of

from .access import ADD_FEED, REVOKE_FEED, VIEW_FEEDS
from .base import OpenView
from .calls import ListViewSet, ManagerView, parse_body
from .conditional import make_etag, respond_conditionally
from .filters import FeedFilters
from .list_requests import FeedBody
from .schema import NUMBER, conflict, describe, missing
from .serializers import CreatedFeedSerializer, FeedSerializer


class Feeds(ManagerView, ListViewSet[ListFeed]):
    """List the feeds of lists.

    The newest feed comes first. The addresses are not shown again.
    """

    required_permissions = {"list": VIEW_FEEDS, "create": ADD_FEED, "destroy": REVOKE_FEED}
    id_schema = NUMBER
    queryset = ListFeed.objects.order_by("-pk")
    serializer_class = FeedSerializer
    filterset_class = FeedFilters

    @describe(
        request=FeedBody, responses={201: CreatedFeedSerializer} | missing("list") | conflict(Code.ALREADY_EXISTS)
    )
    def create(self, request: Request) -> Response:
        """Publish the new stories of a list.

        Only this response has the addresses of an Atom feed and of a JSON Feed. Anybody with one of them can read
        the latest 100 new stories of the list, without an account, until the feed is revoked.
        """
        body = parse_body(FeedBody, request)
        return self.run_once(lambda: self.respond(self.manager.create_feed(body["list"], body["name"])))

    def respond(self, outcome: NewFeed | Refusal) -> Response:
        created = require_granted(outcome)
        addresses = addresses_of(created, self.request._request)
        facts = {"feed": created.feed, "atom_url": addresses["atom"], "json_url": addresses["json"]}
        return self.respond_created("feed", created.feed, CreatedFeedSerializer(facts).data)

    def destroy(self, request: Request, pk: str) -> Response:
        """Revoke a feed.

        Its addresses return 404 from now on.
        """
        require_granted(self.manager.revoke_feed(pk))
        return Response(status=204)


class FeedView(OpenView):
    """One feed, for feed readers: they send neither a token in a header nor a useful `Accept`."""

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        return super().perform_content_negotiation(request, force=True)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Hide the address from caches, search engines, and the sites behind its links."""
        response = super().finalize_response(request, response, *args, **kwargs)
        patch_cache_control(response, private=True, no_cache=True)
        response.headers["X-Robots-Tag"] = "noindex, nofollow"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    def get(self, request: Request, pk: str, kind: str) -> HttpResponseBase:
        # By the hash of the key: the time that it takes reveals nothing about other keys.
        digest, feeds = digest_of(request.query_params.get("token", "")), ListFeed.objects.select_related("list")
        feed = feeds.filter(digest=digest, list=as_uuid(pk)).first()
        if feed is None:
            raise NotFound("No such feed. It may have been revoked.")
        feed.note_use()
        stories = fetch_new_stories(feed.list)
        site = request.build_absolute_uri(get_script_prefix())
        content = write_feed(kind, feed.list_id, feed.list.name, feed.list.created_at, site, stories)
        # Without Last-Modified: no story is newer when a profile leaves the list.
        whole = HttpResponse(content, content_type=FEEDS[kind].content_type)
        return respond_conditionally(request, make_etag(content), lambda: whole)


urls = [
    path("feeds/", Feeds.as_view({"get": "list", "post": "create"}), name="feeds"),
    path("feeds/<str:pk>/", Feeds.as_view({"delete": "destroy"}), name="feed-detail"),
    path("lists/<str:pk>/feed.atom", FeedView.as_view(), {"kind": "atom"}, name="feed-atom"),
    path("lists/<str:pk>/feed.json", FeedView.as_view(), {"kind": "json"}, name="feed-json"),
]

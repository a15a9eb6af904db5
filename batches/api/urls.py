from django.db import transaction
from django.urls import include, path, re_path
from rest_framework.routers import SimpleRouter

from . import feeds, hosts, lists, redirects, results, subscriptions
from .docs import DocsView, SchemaView
from .versioning import ROOT
from .views import BatchViewSet, NothingHere, QueueViewSet

app_name = ROOT

router = SimpleRouter()
router.register("batches", BatchViewSet, "batch")
router.register("lists", lists.ProfileListViewSet, "list")

calls = [
    *router.urls,
    *results.urls,
    *lists.urls,
    *feeds.urls,
    *hosts.urls,
    *redirects.urls,
    *subscriptions.urls,
    path("queue/", QueueViewSet.as_view({"get": "retrieve"}), name="queue"),
    path("queue/hold/", QueueViewSet.as_view({"post": "hold"}), name="queue-hold"),
    path("queue/release/", QueueViewSet.as_view({"post": "release"}), name="queue-release"),
    path("schema/", SchemaView.as_view(), name="schema"),
    path("docs/", DocsView.as_view(), name="docs"),
]

for call in calls:
    # Each call has its own transactions, and reads lists before them, even in a project with ATOMIC_REQUESTS.
    transaction.non_atomic_requests(call.callback)

urlpatterns = [
    path("v1/", include((calls, "v1"))),
    # The default version, for people who type a path.
    *calls,
    re_path("^(?:(?P<version>v[0-9]{1,9})(?:/|$))?", NothingHere.as_view()),
]

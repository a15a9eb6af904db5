from django.urls import path, re_path
from rest_framework.routers import SimpleRouter

from . import results
from .docs import DocsView, SchemaView
from .views import BatchViewSet, NothingHere, QueueViewSet

app_name = "api"

router = SimpleRouter()
router.register("batches", BatchViewSet, "batch")

urlpatterns = [
    *router.urls,
    *results.urls,
    path("queue/", QueueViewSet.as_view({"get": "retrieve"}), name="queue"),
    path("queue/hold/", QueueViewSet.as_view({"post": "hold"}), name="queue-hold"),
    path("queue/release/", QueueViewSet.as_view({"post": "release"}), name="queue-release"),
    path("schema/", SchemaView.as_view(), name="schema"),
    path("docs/", DocsView.as_view(), name="docs"),
    re_path("", NothingHere.as_view()),
]

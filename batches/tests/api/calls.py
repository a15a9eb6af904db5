"""The API's calls in one table, which the tests walk. A new call needs one row here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile

from batches.api.base import OpenView
from batches.api.urls import urlpatterns
from batches.models import Batch, ListFeed, Profile, ProfileList, Subscription
from batches.tests.support.factories import urls
from batches.tests.support.urlconf import iterate_routes

STATES = ("queued", "running", "paused", "done", "error")
OK, CREATED, GONE, MISSING = 200, 201, 204, 404
RUNNING, QUEUED, UNQUEUED, FINISHED = "already_running", "already_queued", "not_queued", "finished"
NOTHING = "nothing_to_undo"
EDIT, OPERATE = "change_profilelist", "operate_batch"
ALWAYS = (OK,) * 5
ADDRESS = "https://example.org/"
TO_FRONT = {"position": 1}
NEW_BATCH = {"name": "x", "profiles": [ADDRESS]}
SUBSCRIBE = {"address": "new@example.org", "topics": ["stories"]}
SUBSCRIBE_TO_QUEUE = {"address": "new@example.org", "topics": ["held"], "minutes": 5}
#: Of the list of the fixture.
LIST_ID = "5eedba7c-0000-4000-8000-000000000002"
UNKNOWN_ID = "00000000-0000-0000-0000-000000000000"

#: A form for a new batch with this list, as bytes.
MULTIPART = "multipart/form-data; boundary=x"
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nnews\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n%s\r\n--x--\r\n'
)


@dataclass(frozen=True)
class Call:
    """`answers` are a status, or the code of a 409, for a batch in each of STATES."""

    method: str
    route: str
    permission: str
    path: str
    body: Any = None
    answers: tuple[int | str, ...] = ALWAYS

    def __str__(self) -> str:
        return f"{self.method} {self.route}"

    def send(self, client: Any, batch: Any, body: Any = None, **options: Any) -> Any:
        """The answer for a batch, or for anything in place of its id; with the call's own body unless one is given."""
        return getattr(client, self.method)(f"/api/v1/{fill(self.path, batch)}", body or self.body, **options)


def fill(path: str, batch: Any) -> str:
    """With the id of the batch and of the others that there are, or with anything in place of them."""
    others = {"list": ProfileList, "profile": Profile, "feed": ListFeed, "subscription": Subscription}
    ids = {
        name: model.objects.values_list("pk", flat=True).first() if isinstance(batch, Batch) else batch
        for name, model in others.items()
    }
    return path.format(pk=getattr(batch, "pk", batch), **ids)


CALLS = [
    Call("get", "batch-list", "view_batch", "batches/"),
    Call("get", "batch-detail", "view_batch", "batches/{pk}/"),
    Call("get", "queue", "view_batch", "queue/"),
    Call("get", "batch-profiles", "view_batchprofile", "batches/{pk}/profiles/"),
    Call("get", "batch-attempts", "view_batchprofile", "batches/{pk}/attempts/"),
    Call("get", "batch-stories", "view_storyresult", "batches/{pk}/stories/"),
    Call("get", "batch-logs", "view_batchlog", "batches/{pk}/logs/"),
    # The batch does not repeat another.
    Call("get", "batch-comparison", "view_batch", "batches/{pk}/comparison/", answers=(MISSING,) * 5),
    Call("get", "batch-export", "view_batchprofile", "batches/{pk}/export/csv/"),
    Call("get", "batch-stories-export", "view_storyresult", "batches/{pk}/stories/export/csv/"),
    Call("get", "profiles", "view_profile", "profiles/"),
    # No profile has this id.
    Call("post", "profiles-check", "add_batch", "profiles/check/", {"ids": [10**9]}, (MISSING,) * 5),
    Call("get", "profile", "view_profile", "profiles/{profile}/"),
    Call("delete", "profile", "delete_profile", "profiles/{profile}/", None, (GONE,) * 5),
    Call("get", "profile-history", "view_batchprofile", "profiles/{profile}/history/"),
    Call("get", "stories", "view_storyresult", "stories/"),
    Call("post", "batch-list", "add_batch", "batches/", NEW_BATCH, (CREATED,) * 5),
    Call("patch", "batch-detail", "change_batch", "batches/{pk}/", {"name": "x", "priority": 7}),
    Call("delete", "batch-detail", "delete_batch", "batches/{pk}/", None, (GONE, RUNNING, GONE, GONE, GONE)),
    Call("post", "batch-queue", OPERATE, "batches/{pk}/queue/", None, (OK, RUNNING, OK, OK, OK)),
    Call("post", "batch-start", OPERATE, "batches/{pk}/start/", None, (OK, RUNNING, OK, FINISHED, FINISHED)),
    Call("post", "batch-pause", OPERATE, "batches/{pk}/pause/", None, (OK, OK, OK, FINISHED, FINISHED)),
    Call("post", "batch-move", OPERATE, "batches/{pk}/move/", TO_FRONT, (OK, RUNNING, UNQUEUED, FINISHED, FINISHED)),
    Call("post", "batch-retry", OPERATE, "batches/{pk}/retry/", None, (QUEUED, RUNNING, OK, OK, OK)),
    Call("post", "batch-undo", OPERATE, "batches/{pk}/undo/", None, (OK, OK, OK, NOTHING, NOTHING)),
    Call("post", "batch-repeat", OPERATE, "batches/{pk}/repeat/", None, (CREATED,) * 5),
    Call("post", "batch-bulk", OPERATE, "batches/bulk/", {"action": "pause", "ids": ["x"]}),
    Call("get", "list-list", "view_profilelist", "lists/"),
    Call("get", "list-detail", "view_profilelist", "lists/{list}/"),
    Call("get", "list-profiles", "view_listprofile", "lists/{list}/profiles/"),
    Call("get", "list-logs", "view_batchlog", "lists/{list}/logs/"),
    Call("get", "list-export", "view_listprofile", "lists/{list}/export/csv/"),
    Call("post", "list-list", "add_profilelist", "lists/", {"name": "new", "profiles": [ADDRESS]}, (CREATED,) * 5),
    Call("patch", "list-detail", EDIT, "lists/{list}/", {"name": "x", "priority": 7}),
    Call("delete", "list-detail", "delete_profilelist", "lists/{list}/", None, (GONE,) * 5),
    Call("post", "list-add", EDIT, "lists/{list}/add/", {"profiles": [ADDRESS]}),
    Call("post", "list-remove", EDIT, "lists/{list}/remove/", {"profiles": urls(1)}),
    Call("post", "list-sync", EDIT, "lists/{list}/sync/", {"profiles": [ADDRESS], "allow_removals": True}),
    Call("post", "list-correct", EDIT, "lists/{list}/correct/", {"address": urls(1)[0], "new_address": ADDRESS}),
    Call("post", "list-run", OPERATE, "lists/{list}/run/", None, (CREATED,) * 5),
    Call("get", "list-subscriptions", EDIT, "lists/{list}/subscriptions/"),
    Call("post", "list-subscriptions", EDIT, "lists/{list}/subscriptions/", SUBSCRIBE, (CREATED,) * 5),
    Call("get", "queue-subscriptions", EDIT, "queue/subscriptions/"),
    Call("post", "queue-subscriptions", EDIT, "queue/subscriptions/", SUBSCRIBE_TO_QUEUE, (CREATED,) * 5),
    Call("get", "subscription-detail", EDIT, "subscriptions/{subscription}/"),
    Call("patch", "subscription-detail", EDIT, "subscriptions/{subscription}/", {"topics": ["done"], "digest_hour": 7}),
    Call("delete", "subscription-detail", EDIT, "subscriptions/{subscription}/", None, (GONE,) * 5),
    Call("post", "subscription-test", EDIT, "subscriptions/{subscription}/test/"),
    Call("get", "feeds", "view_listfeed", "feeds/"),
    Call("post", "feeds", "add_listfeed", "feeds/", {"list": LIST_ID, "name": "new"}, (CREATED,) * 5),
    Call("delete", "feed-detail", "delete_listfeed", "feeds/{feed}/", None, (GONE,) * 5),
    Call("get", "hosts", "view_host", "hosts/"),
    Call("get", "redirects", "view_redirect", "redirects/"),
    Call("post", "redirects-accept", "change_redirect", "redirects/accept/", {"ids": [1]}),
    Call("post", "queue-hold", OPERATE, "queue/hold/", {"reason": "maintenance"}),
    Call("post", "queue-release", OPERATE, "queue/release/"),
]
WRITING = [call for call in CALLS if call.method != "get"]
POSTS = [call for call in CALLS if call.method == "post"]
WITH_BODY = [call for call in CALLS if call.method in {"post", "patch"}]
OF_A_BATCH = [call for call in CALLS if "{pk}" in call.path]
WITH_ID = [call for call in CALLS if "{" in call.path]


PATTERNS = [pattern for _, pattern in iterate_routes(urlpatterns)]
#: The view of each route.
VIEWS = {str(pattern.name): pattern.callback.cls for pattern in PATTERNS}
#: The path of each list or export, and its parameters.
LISTS = {
    call.path: [*view.filterset_class.base_filters]
    for call in CALLS
    if call.method == "get"
    and call.route not in {"batch-detail", "list-detail", "profile", "subscription-detail"}
    and hasattr(view := VIEWS[call.route], "filterset_class")
}


def upload(client: Any, content: bytes = ADDRESS.encode(), filename: str = "list.txt", **fields: Any) -> Any:
    """The answer to a form for a new batch."""
    return post_file(client, "batches/", content, filename, **{"name": "news"} | fields)


def post_file(client: Any, path: str, content: bytes, filename: str = "list.txt", **fields: Any) -> Any:
    return client.post(f"/api/{path}", {"file": SimpleUploadedFile(filename, content)} | fields, format="multipart")


def api_routes() -> Iterator[tuple[str, str]]:
    """Each (method, route) of the resolver, such as ("post", "batch-pause"), except those for everybody."""
    for pattern in PATTERNS:
        if not issubclass(pattern.callback.cls, OpenView):
            # DRF adds the HEAD of a GET with the first request.
            yield from ((method, str(pattern.name)) for method in pattern.callback.actions if method != "head")

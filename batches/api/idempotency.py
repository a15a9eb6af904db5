"""`Idempotency-Key`: a POST that is sent again with the same key is done once, and gets the first answer again.

The row of the key is written in the transaction of the change. A fault or a killed process undoes both, and the next
attempt does the work. A second request with the key waits for the first, on PostgreSQL at the unique index and on
SQLite at BEGIN IMMEDIATE, and gets the same answer, so clients never see "409, in flight". Lists are read, and the rows
of a new batch are stored, before that transaction, so no lock is held while they are. A bulk call is done in steps: the
row of the key has its progress, and each request with the key takes the next step.

Answers of calls that ran are stored, refusals (404, 409) included. A request that was refused before it ran (400, 401,
403, 413, 415, 429) is not stored: the client can correct it and use the same key. The status codes are from
draft-ietf-httpapi-idempotency-key-header.

The admin's form for a new batch has no header to send. It passes an `id` to `BatchManager.create_batch` instead, which
protects that one call against a second click; the header protects every POST and repeats its answer.
"""

import json
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils import timezone
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from batches.limits import MAX_KEY
from batches.models.api import StoredResponse
from batches.queue.refusals import Refused
from batches.queue.sql import taking_turns

from .base import BaseView, Renderer
from .schema import HEADER, REPLAYED

T = TypeVar("T")

KEPT_FOR = timedelta(hours=24)
#: A stored answer has at most this many rejected entries: a list of 2 MB can have 25 MB of them.
STORED_REJECTS = 100

#: Left out of stored answers: secrets that are shown once.
NEVER_STORED = ("atom_url", "json_url")

#: Changes in one transaction of a call that makes many. The queue is locked for 5 to 9 ms for each.
STEP = 5

#: Stores what the changes of a step need before its transaction, and yields the call that makes them.
Prepare = Callable[[Sequence[Any]], AbstractContextManager[Callable[[], list[Any]]]]

#: Visible ASCII. The quotes of the draft belong to the key.
KEY = re.compile(rf"[!-~]{{1,{MAX_KEY}}}")


class KeyReused(APIException):
    status_code = 422
    default_detail = f"This {HEADER} belongs to another request. Use a new key."
    default_code = "idempotency_key_reused"


class IdempotentPosts(BaseView):
    """A view that makes the change of each POST in `run_once`."""

    #: Not saved: the key of this request, its user, and a fingerprint of the request.
    wanted: StoredResponse | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method == "POST" and HEADER in request.headers:
            key = request.headers[HEADER]
            if not KEY.fullmatch(key):
                raise ValidationError({HEADER: [f"Send 1 to {MAX_KEY} visible ASCII characters, such as a UUID."]})
            # Here and not in `run_once`, when an uploaded list has been read to its end.
            self.wanted = StoredResponse(user=request.user, key=key, fingerprint=fingerprint(request))  # type: ignore[misc]

    def run_once(self, call: Callable[[], Response]) -> Response:
        """The answer of `call`, or the stored answer of the key. Raises KeyReused."""
        if self.wanted is None:
            return call()
        with transaction.atomic(durable=True):
            stored, is_new = _claim_key(self.wanted)
            if is_new:
                try:
                    response = call()
                except Refused as refused:  # stored like any answer; every other exception undoes the key
                    response = self.handle_exception(refused)
                    if response.status_code == 400:  # the client can correct it and use the same key
                        raise
                _store(stored, response)
                return response
        return self._replay(stored)

    def run_prepared_once(
        self, prepare: Callable[[], AbstractContextManager[T]], call: Callable[[T], Response]
    ) -> Response:
        """Like `run_once`, for a call with rows to store: it prepares them first, in separate transactions.

        The transaction of the key would lock SQLite for as long as that takes.
        """
        if self.wanted is not None and (stored := unexpired(self.wanted).first()):
            return self._replay(stored)
        try:
            with prepare() as prepared:
                return self.run_once(lambda: call(prepared))
        except Refused as refused:  # perhaps because the same request has just done it
            return self.run_once(partial(_refuse, refused))

    def run_steps_once(self, select: Callable[[], tuple[Sequence[Any], int]], prepare: Prepare) -> Response:
        """As `run_once`, for many changes: a few of them at a time, in a transaction that also writes their outcomes.

        The same request sent again continues where the first was interrupted. `select` returns the items to change, and
        how many are left for another request.
        """
        if self.wanted is None:
            items, left = select()
            with prepare(items) as run:
                return Response(sum_up(run(), left))
        stored, is_new = unexpired(self.wanted).first(), False
        if stored is None:
            items, left = select()
            self.wanted.body = json.dumps({"items": list(items), "left": left, "outcomes": []}, default=str)
            with transaction.atomic(durable=True):
                stored, is_new = _claim_key(self.wanted)
        while stored.status_code is None and stored.fingerprint == self.wanted.fingerprint:
            stored = _take_step(stored, prepare)
        return answer_of(stored) if is_new else self._replay(stored)

    def _replay(self, stored: StoredResponse) -> Response:
        if self.wanted is None or stored.fingerprint != self.wanted.fingerprint:
            raise KeyReused
        response = answer_of(stored)
        response.headers[REPLAYED] = "true"
        return response


def _refuse(refused: Refused) -> Response:
    raise refused


def fingerprint(request: Request) -> str:
    """A hash of method, path and parsed body: whitespace and the random boundary of a form do not count."""
    body = request.data
    if isinstance(body, QueryDict):
        body = {name: [_comparable(value) for value in values] for name, values in body.lists()}
    text = json.dumps([request.method, request.get_full_path(), body], sort_keys=True)
    return sha256(text.encode()).hexdigest()


def _comparable(value: "str | UploadedFile[Any]") -> str | list[str]:
    """A text unchanged; for a file its name, which decides its format, and a hash of its content."""
    if isinstance(value, str):
        return value
    content = sha256()
    for chunk in value.chunks():
        content.update(chunk)
    value.seek(0)  # the list is read from it later
    return [value.name or "", content.hexdigest()]


def _claim_key(wanted: StoredResponse) -> tuple[StoredResponse, bool]:
    """The row of the key, and whether it is new. Waits for a transaction that is inserting it."""
    key = {"user": wanted.user, "key": wanted.key}
    StoredResponse.objects.filter(**key, created_at__lt=timezone.now() - KEPT_FOR).delete()
    defaults = {"fingerprint": wanted.fingerprint, "body": wanted.body}
    return StoredResponse.objects.get_or_create(**key, defaults=defaults)


def _take_step(seen: StoredResponse, prepare: Prepare) -> StoredResponse:
    progress = json.loads(seen.body)
    with taking_turns(cut_log=True), prepare(progress["items"][:STEP]) as run, transaction.atomic(durable=True):
        stored = StoredResponse.objects.select_for_update(no_key=True).get(pk=seen.pk)
        if stored.body == seen.body:  # otherwise another request with the key has taken this step
            progress["outcomes"] += run()
            progress["items"] = progress["items"][STEP:]
            if progress["items"]:
                stored.body = Renderer().render(progress).decode()
                stored.save(update_fields=["body"])
            else:
                _store(stored, Response(sum_up(progress["outcomes"], progress["left"])))
    return stored


def sum_up(outcomes: list[Any], left: int) -> dict[str, Any]:
    """In the form of `BulkSerializer` and `AcceptedSerializer`."""
    done = sum(outcome["code"] is None for outcome in outcomes)
    return {"done": done, "refused": len(outcomes) - done, "left": left, "outcomes": outcomes}


def _store(stored: StoredResponse, response: Response) -> None:
    stored.status_code = response.status_code
    stored.location = response.headers.get("Location", "")
    data = dict(response.data)
    if "rejected" in data:
        data["rejected"] = data["rejected"][:STORED_REJECTS]
    data |= {name: None for name in NEVER_STORED if name in data}
    stored.body = Renderer().render(data).decode()
    stored.save(update_fields=["status_code", "location", "body"])


def answer_of(stored: StoredResponse) -> Response:
    headers = {"Location": stored.location} if stored.location else {}
    return Response(json.loads(stored.body), stored.status_code, headers=headers)


def unexpired(wanted: StoredResponse) -> QuerySet[StoredResponse]:
    """The answer of the key, if there is one. Workers remove the others (`checking/pruning.py`)."""
    recent = StoredResponse.objects.filter(created_at__gte=timezone.now() - KEPT_FOR)
    return recent.filter(user=wanted.user, key=wanted.key)

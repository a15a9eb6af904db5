"""POSTs that can be sent again without harm: `Idempotency-Key`, and what it promises.

A client that does not know whether its POST arrived sends it again with the same key and the same body, and gets the
answer to the first one: the thing is done once, however often it is asked for and by however many at the same instant.

The key's row is written in the transaction of the change, so that there is never one without the other: a fault or a
killed process undoes both, and the next try really tries. A second request with the key waits for the first one, on
PostgreSQL at the unique index and on SQLite at BEGIN IMMEDIATE, and is then given the same answer; there is no "409, in
flight" to be handled. The lists are read before, so that no lock is held meanwhile.

Kept are the answers of calls that ran, refusals (404, 409) among them. What was refused before that (400 for a body
that cannot be read, 401, 403, 413, 415, 429) did nothing, is not kept, and may be corrected under the same key. The
status codes are those of the IETF's draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import QuerySet
from django.http import QueryDict
from django.utils import timezone
from rest_framework.exceptions import APIException, ParseError, ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from batches.limits import MAX_KEY
from batches.models.api import StoredResponse
from batches.queue.refusals import Refused

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"

KEPT_FOR = timedelta(hours=24)
#: Expired answers that a request removes at most; it adds one.
FORGOTTEN_AT_ONCE = 100

#: What can be seen of ASCII. The draft's quotes belong to the key.
KEY = re.compile(rf"[!-~]{{1,{MAX_KEY}}}")


class KeyReused(APIException):
    status_code = 422
    default_detail = f"This {HEADER} was sent with another request before. A new request needs a new key."
    default_code = "idempotency_key_reused"


@dataclass(frozen=True, slots=True)
class Asked:
    """A key, and what tells its request from others."""

    key: str
    fingerprint: str


class IdempotentPosts(APIView):
    """A view whose POSTs do nothing themselves: each hands its change to `once`."""

    asked: Asked | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method == "POST" and HEADER in request.headers:
            # Now, and not in `once`: by then an uploaded list has been read.
            self.asked = Asked(_key(request.headers[HEADER]), fingerprint(request))

    def once(self, call: Callable[[], Response]) -> Response:
        """The answer of `call`, or, where its key was answered already, that answer. Raises KeyReused."""
        if self.asked is None:
            return call()
        forget_expired()
        with transaction.atomic(durable=True):
            kept, is_new = _claim(self.request.user, self.asked)
            if is_new:
                response = self._answer(call)
                _keep(kept, response)
                return response
        if kept.fingerprint != self.asked.fingerprint:
            raise KeyReused
        return replayed(kept)

    def _answer(self, call: Callable[[], Response]) -> Response:
        try:
            return call()
        except Refused as refused:  # an answer like any other; what is no answer undoes the key as well
            return self.handle_exception(refused)


def _key(text: str) -> str:
    if not KEY.fullmatch(text):
        raise ValidationError({HEADER: [f"A key is 1 to {MAX_KEY} visible ASCII characters, such as a UUID."]})
    return text


def fingerprint(request: Request) -> str:
    """A hash of method, path and what the body says: neither white space nor a form's random boundary counts."""
    body = request.data
    if isinstance(body, QueryDict):
        body = {name: [_said(value) for value in values] for name, values in body.lists()}
    try:
        said = json.dumps([request.method, request.get_full_path(), body], sort_keys=True)
    except RecursionError as error:
        raise ParseError("JSON parse error - it is nested too deep.") from error
    return sha256(said.encode()).hexdigest()


def _said(value: str | UploadedFile[Any]) -> str | list[str]:
    """A form's text as it is; a file as its name, which tells its format, and a hash of its content."""
    if isinstance(value, str):
        return value
    content = sha256()
    for chunk in value.chunks():
        content.update(chunk)
    value.seek(0)  # it is read again as a list
    return [value.name or "", content.hexdigest()]


def _claim(user: Any, asked: Asked) -> tuple[StoredResponse, bool]:
    """The row of the key, and whether it is new. Waits for whoever has just made it."""
    expired().filter(user=user, key=asked.key).delete()
    return StoredResponse.objects.get_or_create(user=user, key=asked.key, defaults={"fingerprint": asked.fingerprint})


def _keep(kept: StoredResponse, response: Response) -> None:
    kept.status_code = response.status_code
    kept.location = response.headers.get("Location", "")
    kept.body = JSONRenderer().render(response.data).decode()
    kept.save(update_fields=["status_code", "location", "body"])


def replayed(kept: StoredResponse) -> Response:
    headers = {REPLAYED: "true"} | ({"Location": kept.location} if kept.location else {})
    return Response(json.loads(kept.body), kept.status_code, headers=headers)


def expired() -> QuerySet[StoredResponse]:
    return StoredResponse.objects.filter(created_at__lt=timezone.now() - KEPT_FOR)


def forget_expired() -> None:
    """Remove some expired answers. In a transaction of its own, and past those that others hold: nobody waits."""
    if expired().exists():
        with transaction.atomic():
            some = expired().select_for_update(skip_locked=True).values_list("pk", flat=True)[:FORGOTTEN_AT_ONCE]
            StoredResponse.objects.filter(pk__in=list(some)).delete()

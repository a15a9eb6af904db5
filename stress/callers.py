"""Those who steer the queue while it is under fire, each through a door: the admin, the REST API, the command line.

Every answer will do, also that the database cannot be reached just now; a fault, or no answer, is a breach. They leave
enough batches for the workers, and end none before all of it is checked.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from io import StringIO
from multiprocessing.connection import Connection
from secrets import token_hex
from typing import Any

import httpx
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connections
from rest_framework.authtoken.models import Token

from batches.models import DATABASE_FAULTS, Batch
from batchproject.sessions import SessionStore

#: Seconds between two calls of one of them, at random around it.
PAUSE = 0.15

#: The longest that an answer is waited for: twice what the database may wait for a lock.
PATIENCE = 40.0

#: One is set aside only while more than so many wait.
ENOUGH = 3

#: What came of a call.
DONE, REFUSED, UNAVAILABLE = "done", "refused", "unavailable"

QUEUE_PAGE = "/admin/batches/batch/queue/"
BUTTON = re.compile(r'formaction="(/admin/batches/batch/queue/(\w+)/[0-9a-f-]{36}/)"')
ROW = re.compile(r'name="move" value="([0-9a-f-]{36})">\s*<input type="hidden" name="version" value="(\d+)"')
CSRF_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')

Status = Batch.Status


@dataclass(frozen=True, slots=True)
class Credentials:
    """Of somebody who may do everything: a session of the admin, a token of the API."""

    session: str
    token: str


def make_credentials() -> Credentials:
    user = User.objects.create_superuser("somebody")
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return Credentials(str(session.session_key), Token.objects.create(user=user).key)


def use_admin(link: Connection, site: str, credentials: Credentials) -> None:
    """Look at the queue page, and press one of its buttons."""
    cookies = {"sessionid": credentials.session}
    with httpx.Client(base_url=site, cookies=cookies, timeout=PATIENCE) as client:

        def act() -> str:
            page = client.get(QUEUE_PAGE)
            form = CSRF_TOKEN.search(page.text)
            if _came_of(page) != DONE or form is None:
                return _came_of(page)
            body = {"csrfmiddlewaretoken": form[1]}
            return _came_of(client.post(random.choice(_buttons(page.text)), data=body))

        _go_on(link, act)


def _buttons(page: str) -> list[str]:
    waiting = ROW.findall(page)
    wanted = {"queue_batch", "start_batch", *(["pause_batch"] if len(waiting) > ENOUGH else [])}
    pressed = [address for address, call in BUTTON.findall(page) if call in wanted]
    moved = [f"{QUEUE_PAGE}move/{pk}/{random.randint(1, ENOUGH)}/{version}/" for pk, version in waiting]
    return [*pressed, *moved, f"{QUEUE_PAGE}release/"]


def use_api(link: Connection, site: str, credentials: Credentials, base: str) -> None:
    headers = {"Authorization": f"Token {credentials.token}"}
    with httpx.Client(base_url=f"{site}/api/v1", headers=headers, timeout=PATIENCE) as client:
        order = Order(base)

        def act() -> str:
            nonlocal order
            if random.random() < 0.1:
                answer = order.send(client)
                if answer == DONE:
                    link.send(("ordered", time.monotonic(), order.urls))
                    order = Order(base)
                return answer
            listed = client.get("/batches/", params={"ordering": "position"})
            if _came_of(listed) != DONE:
                return _came_of(listed)
            method, path, body = random.choice(_requests(listed.json()["results"]))
            return _came_of(client.request(method, path, json=body))

        _go_on(link, act)


class Order:
    """A new batch, asked for with the same key until it is made: it must be made once."""

    def __init__(self, base: str) -> None:
        self.key = token_hex(8)
        self.urls = [f"{base}/order-{self.key}/{number}" for number in range(4)]

    def send(self, client: httpx.Client) -> str:
        body = {"name": "ordered", "profiles": self.urls, "checker": "http"}
        return _came_of(client.post("/batches/", json=body, headers={"Idempotency-Key": self.key}))


def _requests(batches: list[dict[str, Any]]) -> list[tuple[str, str, dict[str, Any]]]:
    waiting = [batch for batch in batches if batch["status"] == Status.QUEUED]
    some = random.choice(batches)["id"] if batches else "none"
    return [
        ("GET", "/queue/", {}),
        ("GET", f"/batches/{some}/", {}),
        ("PATCH", f"/batches/{some}/", {"priority": random.randint(-1, 1)}),
        ("POST", f"/batches/{some}/move/", {"position": random.randint(1, ENOUGH)}),
        ("POST", f"/batches/{some}/{'pause' if len(waiting) > ENOUGH else 'start'}/", {}),
        ("POST", f"/batches/{some}/retry/", {}),
        ("POST", "/queue/release/", {}),
    ]


def _came_of(response: httpx.Response) -> str:
    if response.status_code < 400:
        return DONE
    if response.status_code < 500:
        return REFUSED
    is_clear = "Retry-After" in response.headers and "ry again in a moment" in response.text
    if response.status_code == 503 and is_clear:
        return UNAVAILABLE
    raise AssertionError(f"{response.request.method} {response.request.url} is answered with {response.status_code}")


def use_terminal(link: Connection) -> None:
    def act() -> str:
        try:
            return _type(random.choice(_commands()))
        except DATABASE_FAULTS:
            return UNAVAILABLE  # while this program looked which batches there are
        finally:
            connections.close_all()  # each command is a process of its own, with a new connection

    _go_on(link, act)


def _type(command: tuple[str, ...]) -> str:
    """Neither a traceback nor silence: where a command fails, it says why in a sentence."""
    with closing(StringIO()) as out:
        try:
            call_command(*command, stdout=out, stderr=out)
        except CommandError as error:
            return UNAVAILABLE if isinstance(error.__cause__, DATABASE_FAULTS) else REFUSED
        except DATABASE_FAULTS as error:
            raise AssertionError(f"{' '.join(command)} ended with a traceback") from error
        except SystemExit:
            return REFUSED
        return DONE


def _commands() -> list[tuple[str, ...]]:
    waiting = [str(pk) for pk in Batch.objects.queued().values_list("pk", flat=True)]
    aside = [str(pk) for pk in Batch.objects.filter(status=Status.PAUSED).values_list("pk", flat=True)]
    some = random.choice(waiting) if waiting else "none"
    return [
        ("queue", "show"),
        ("batch", "list"),
        ("batch", "move", some, str(random.randint(1, ENOUGH))),
        ("batch", "priority", some, str(random.randint(0, 1))),
        ("batch", "pause" if len(waiting) > ENOUGH else "start", some),
        *(("batch", call, pk) for pk in aside[:1] for call in ("queue", "start")),
        ("queue", "release"),
    ]


def _go_on(link: Connection, act: Callable[[], str]) -> None:
    """Until "stop"; tell what came of each call."""
    while True:
        came_of = act()
        link.send(("answered", time.monotonic(), came_of))
        if link.poll(random.uniform(0, 2 * PAUSE)):
            return

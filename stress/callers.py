"""Callers who change the queue while it is under fire: through the admin, the REST API and the command line.

Any clear response is fine, including "the database is unavailable"; an unexpected error or no response is a breach.
Callers leave enough batches for the workers, and do not complete a batch before it is checked.
"""

import random
import re
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from html import unescape
from io import StringIO
from multiprocessing.connection import Connection
from typing import Any

import httpx
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client

from batches.models import DATABASE_FAULTS, Batch
from batches.tests.support.factories import api_key
from batches.web import outages

#: Mean number of seconds between two calls of a caller.
PAUSE = 0.15

#: Seconds to wait for a response: twice as long as the database waits for a lock.
PATIENCE = 40.0

#: The share of possible interruptions that a caller makes. The workers begin again each time.
INTERRUPTING = 0.1

#: Callers pause a batch only while more than this many are queued.
ENOUGH = 3

#: Outcomes of a call.
DONE, REFUSED, UNAVAILABLE = "done", "refused", "unavailable"

QUEUE_PAGE = "/admin/batches/batch/queue/"
BUTTON = re.compile(r'formaction="(/admin/batches/batch/queue/(\w+)/[0-9a-f-]{36}/\?[^"]+)"')
ROW = re.compile(r'name="move" value="([0-9a-f-]{36})">\s*<input type="hidden" name="from" value="(\d+)"')
CSRF_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')

Status = Batch.Status


@dataclass(frozen=True, slots=True)
class Credentials:
    """An admin session and an API token of a superuser."""

    session: str
    token: str


def make_credentials() -> Credentials:
    user, client = User.objects.create_superuser("somebody"), Client()
    client.force_login(user)
    return Credentials(client.cookies["sessionid"].value, api_key(user))


def use_admin(link: Connection, site: str, credentials: Credentials) -> None:
    """Load the queue page and press one of its buttons."""
    cookies = {"sessionid": credentials.session}
    with httpx.Client(base_url=site, cookies=cookies, timeout=PATIENCE) as client:

        def act() -> str:
            nonlocal asked
            page = client.get(QUEUE_PAGE, params=asked)
            form = CSRF_TOKEN.search(page.text)
            if _classify(page) != DONE or form is None:
                return _classify(page)
            waiting, body = list(dict.fromkeys(ROW.findall(page.text))), {"csrfmiddlewaretoken": form[1]}
            outcome = _classify(client.post(_choose_button(page.text, len(waiting)), data=body))
            asked = {}
            if waiting and random.random() < 0.5:  # the next page asks for the confirmation of a move or of a pause
                pk, position = random.choice(waiting)
                move = {"move": pk, "from": position, "to": str(random.randint(1, ENOUGH))}
                asked = random.choice([move, {"pause": pk}])
            return outcome

        asked: dict[str, str] = {}
        _repeat(link, act)


def _choose_button(page: str, waiting: int) -> str:
    """Choose an action, then one of its buttons, so that each action is equally likely, however long the queue is."""
    wanted = {"queue_batch", "move", *(["pause_batch"] if waiting > ENOUGH else [])}
    wanted |= {"start_batch"} if random.random() < INTERRUPTING else set()
    buttons = BUTTON.findall(page)
    random.shuffle(buttons)
    by_call = {call: unescape(address) for address, call in buttons if call in wanted}
    return random.choice([*by_call.values(), f"{QUEUE_PAGE}release/"])


def use_api(link: Connection, site: str, credentials: Credentials, base: str) -> None:
    headers = {"Authorization": f"Token {credentials.token}"}
    with httpx.Client(base_url=f"{site}/api/v1", headers=headers, timeout=PATIENCE) as client:
        order = Order(base)

        def act() -> str:
            nonlocal order
            if random.random() < 0.1:
                outcome = order.send(client)
                if outcome == DONE:
                    link.send(("ordered", time.monotonic(), order.urls))
                    order = Order(base)
                return outcome
            listed = client.get("/batches/", params={"ordering": "position"})
            if _classify(listed) != DONE:
                return _classify(listed)
            method, path, body = random.choice(_requests(listed.json()["results"]))
            return _classify(client.request(method, path, json=body))

        _repeat(link, act)


class Order:
    """A new batch, requested with the same idempotency key until it succeeds: it must be created exactly once."""

    def __init__(self, base: str) -> None:
        self.key = random.randbytes(8).hex()
        self.urls = [f"{base}/order-{self.key}/{number}" for number in range(4)]

    def send(self, client: httpx.Client) -> str:
        body = {"name": "ordered", "profiles": self.urls, "checker": "http"}
        return _classify(client.post("/batches/", json=body, headers={"Idempotency-Key": self.key}))


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


def _classify(response: httpx.Response) -> str:
    if response.status_code < 400:
        return DONE
    if response.status_code < 500:
        return REFUSED
    texts = (outages.BUSY, outages.UNAVAILABLE, outages.UNWRITABLE)
    is_clear = "Retry-After" in response.headers and any(text in response.text for text in texts)
    if response.status_code == 503 and is_clear:
        return UNAVAILABLE
    raise AssertionError(f"{response.request.method} {response.request.url} returned {response.status_code}")


def use_terminal(link: Connection) -> None:
    def act() -> str:
        try:
            return _run_command(random.choice(_commands()))
        except DATABASE_FAULTS:
            return UNAVAILABLE  # deleted while this process listed the batches
        finally:
            connections.close_all()  # like a command in its own process, with a new connection

    _repeat(link, act)


def _run_command(command: tuple[str, ...]) -> str:
    """Run a command. If it fails, it must give the reason in a sentence, without a traceback."""
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
    now = ["--now"] if random.random() < INTERRUPTING else []
    return [
        ("queue", "show"),
        ("batch", "list"),
        ("batch", "move", some, str(random.randint(1, ENOUGH))),
        ("batch", "priority", some, str(random.randint(0, 1))),
        ("batch", "pause" if len(waiting) > ENOUGH else "start", some),
        *(("batch", *call, pk) for pk in aside[:1] for call in (("queue",), ("start", *now))),
        ("queue", "release"),
    ]


def _repeat(link: Connection, act: Callable[[], str]) -> None:
    """Call until "stop" arrives, and report the outcome of each call."""
    while True:
        outcome = act()
        link.send(("responded", time.monotonic(), outcome))
        if link.poll(random.uniform(0, 2 * PAUSE)):
            return

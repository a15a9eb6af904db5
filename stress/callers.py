"""Those who steer the queue while it is under fire: an operator in code, and a program that uses the REST API."""

from __future__ import annotations

import random
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from django.contrib.auth.models import User
from rest_framework.test import APIClient

from batches.batch_manager import BatchManager
from batches.models import Batch, Channel
from batches.transitions import Refusal

#: Seconds between two calls, at random around it.
PAUSE = 0.1

Status = Batch.Status


def operate(link: Connection) -> None:
    """Calls at random, until "stop". A refusal is an answer; an exception is a breach."""
    manager = BatchManager(actor="operator", channel=Channel.ADMIN)
    while not link.poll(random.uniform(0, 2 * PAUSE)):
        call, arguments = random.choice(_operations(manager))
        answer = call(*arguments)
        if not isinstance(answer, Batch | Refusal | bool):
            link.send(("breach", f"{call.__name__} answered {answer!r}"))


def _operations(manager: BatchManager) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """None of them ends a batch before all of it is checked: at the end every profile must have its result."""
    pks = list(Batch.objects.exclude(position=None).values_list("pk", flat=True))
    some = random.choice(pks) if pks else None
    paused = Batch.objects.filter(status=Status.PAUSED).values_list("pk", flat=True).first()
    return [
        (manager.move_batch, (some, random.randint(1, 4))),
        (manager.set_priority, (some, random.randint(-1, 1))),
        (manager.rename_batch, (some, f"name {random.randint(1, 99)}")),
        (manager.pause_batch, (some,)),
        (manager.queue_batch, (paused,)),
        (manager.start_batch, (paused,)),
        (manager.reorder_queue, ()),
    ]


def call_api(link: Connection) -> None:
    """Requests at random, until "stop". Every answer but a fault of the server will do."""
    client = APIClient(SERVER_NAME="localhost")
    client.force_authenticate(User(username="program", is_superuser=True, is_active=True))
    while not link.poll(random.uniform(0, 2 * PAUSE)):
        batches = client.get("/api/batches/").json()["results"]
        some = random.choice(batches)["id"] if batches else "none"
        method, path, body = random.choice(_requests(some))
        response = getattr(client, method)(path, body, format="json")
        if response.status_code >= 500:
            link.send(("breach", f"{method} {path} is answered with {response.status_code}"))


def _requests(some: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        ("get", "/api/queue/", {}),
        ("get", f"/api/batches/{some}/", {}),
        ("patch", f"/api/batches/{some}/", {"priority": random.randint(-1, 1)}),
        ("post", f"/api/batches/{some}/move/", {"position": random.randint(1, 4)}),
        ("post", f"/api/batches/{some}/retry/", {}),
        ("post", "/api/queue/release/", {}),
    ]

"""Measures how long others wait while a long list is imported, kept from a batch, run, edited and deleted."""

import time
from collections.abc import Callable
from typing import Any

from batches.batch_manager import BatchManager
from batches.models import Batch, Profile, ProfileList
from benchmarks.lists import addresses

from .locks import describe, rename_other, waits_while

manager = BatchManager(actor="benchmark")


def measure(profiles: int) -> dict[str, float]:
    urls = list(addresses(profiles))
    manager.create_batch("Others", urls[:1])
    waits, figures = dict[str, list[float]](), dict[str, float]()

    def watch(name: str, call: Callable[[], Any]) -> None:
        started = time.perf_counter()
        waits[name] = waits_while(call, write)
        figures[f"{name}, s"] = time.perf_counter() - started

    watch("first import", lambda: manager.create_list("Big", urls))
    found = ProfileList.objects.get()
    watch("run", lambda: manager.run_list(found.pk))
    watch("keep", lambda: manager.create_batch("Kept", Profile.objects.all(), keep=True))
    new = [f"{url}/new" for url in urls[: profiles // 5]]
    watch("sync", lambda: manager.sync_list(found.pk, [*urls[profiles // 5 :], *new], allow_removals=True))
    watch("add", lambda: manager.add_profiles(found.pk, urls))
    watch("remove", lambda: manager.remove_profiles(found.pk, urls))
    watch("delete", lambda: manager.delete_list(Batch.objects.get(name="Kept").list_id))
    return describe(waits) | figures


def write(number: int) -> Any:
    """Takes the queue's lock and a list's lock in turns. The list may be deleted in between."""
    lists = ProfileList.objects.order_by("created_at").values_list("pk", flat=True)
    turn = number % (len(lists) + 1)
    return manager.change_list(lists[turn - 1], priority=number % 100) or True if turn else rename_other(number)

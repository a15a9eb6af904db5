"""Batches in every status, created by calls of the manager, and the contents of the tables."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from functools import wraps
from typing import Any
from uuid import UUID, uuid4

from django.apps import apps
from django.conf import settings
from django.db import connection, transaction
from django.db.models import DateTimeField
from django.db.models.functions import Now
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult, Story
from batches.models import (
    Batch,
    BatchLog,
    BatchProfile,
    Lease,
    Profile,
    ProfileList,
    Queue,
    Redirect,
    Subscription,
    Worker,
    snapshot,
)
from batches.models.api import AccessToken
from batches.queue.leases import ClaimedRun, end_leases
from batches.queue.partitions import end_checks
from batches.queue.transitions import RULES
from batches.queue.workers import note_worker
from batches.reports.doctor import diagnose

Status = Batch.Status
CLOCK = timezone.now
MODELS = tuple(apps.get_app_config("batches").get_models())


def cap_bulk(monkeypatch: Any, cap: int) -> None:
    """Let every bulk action take at most this many batches."""
    for action, rule in RULES.items():
        monkeypatch.setitem(RULES, action, replace(rule, cap=cap))


def urls(count: int) -> list[str]:
    return [f"https://example.org/{number}" for number in range(count)]


def make_batch(name: str = "a batch", profiles: int = 0, **options: Any) -> Batch:
    """A batch of the first `profiles` addresses, which all batches share. The stories of their first read count."""
    batch = BatchManager().create_batch(name, urls(profiles), **{"count_first": True} | options)
    assert batch, batch
    return batch


def make_list(name: str = "a list", profiles: int = 0, **options: Any) -> ProfileList:
    """A list of the first `profiles` addresses, which all lists and batches share. It counts as `make_batch` does."""
    created = BatchManager().create_list(name, urls(profiles), **{"count_first": True} | options)
    assert created, created
    return created


def subscribe(found: ProfileList | None, address: str = "ada@example.org", **options: Any) -> Subscription:
    """A subscription of "stories", unless the options have other topics."""
    options = {"topics": ["stories"]} | options
    made = BatchManager().subscribe(found.pk if found else None, address, **options)
    assert made, made
    return made


def api_key(user: Any, **values: Any) -> str:
    """A key to the API. Its use counts as noted, so that a call that only reads changes no row."""
    later = timezone.now() + timedelta(days=1)
    token = AccessToken(**{"user": user, "name": str(uuid4()), "last_used_at": later} | values)
    key = token.new_key()
    token.save()
    return key


def story_of(number: object, title: str = "", url: str = "") -> Story:
    return Story(str(number), title or f"Story {number}", url or f"https://example.org/stories/{number}")


def run_list(found: ProfileList, *results: CheckResult, error: str = "") -> Batch:
    """A run of a list that ends with these results, one for each of its profiles, which were read before."""
    Profile.objects.filter(first_read_at=None).update(first_read_at=timezone.now())
    batch = BatchManager().run_list(found.pk)
    assert batch, batch
    check_batch(batch, *results)
    if error:
        assert BatchManager().handle_error(batch.pk, error)
    else:
        assert BatchManager().complete_batch(batch.pk)
    batch.refresh_from_db()
    return batch


def with_stories(*stories: Story) -> CheckResult:
    return CheckResult(ok=True, http_status=200, stories=list(stories))


def urls_of(holder: Batch | ProfileList) -> list[str]:
    """The addresses of a batch or of a list, in its order."""
    return list(holder.profiles.order_by("pk").values_list("profile__url", flat=True))


def make_waiting(count: int) -> list[Batch]:
    """Queued batches in order, named "1", "2", …"""
    return [make_batch(str(number)) for number in range(1, count + 1)]


def start_run(batch: Batch) -> ClaimedRun:
    """Start the batch and claim its run."""
    assert BatchManager().start_batch(batch.pk)
    return claim()


def check_batch(batch: Batch, *results: CheckResult) -> ClaimedRun:
    """Start a run that records these results for its first profiles."""
    run = start_run(batch)
    record(run, zip(profile_ids(batch), results, strict=False))
    return run


def empty_leases(batch: Any) -> None:
    """Add what its leases have counted to its row, so that a test can set the counters there."""
    with transaction.atomic():
        end_leases(batch, ())


def age_leases(batch: Any, age: timedelta = timedelta(days=1)) -> bool:
    """As if the last heartbeat of its workers was `age` ago (negative: in the future), by the database's clock."""
    return Lease.objects.filter(batch=batch).update(lease_at=Now() - age) > 0


def age_workers(age: timedelta = timedelta(days=1)) -> None:
    """Set the last heartbeat of all workers to this long ago; creates a worker if necessary."""
    if not Worker.objects.exists():
        note_worker("worker")
    Worker.objects.update(seen_at=Now() - age)


def token_of(batch: Any) -> UUID:
    """The token of its only worker."""
    return Lease.objects.get(batch=batch).run_token


def remember_token(batch: Any) -> None:
    """Keep the token of its only worker, if it has one, as `batch.token`."""
    batch.token = Lease.objects.filter(batch=batch).values_list("run_token", flat=True).first()


def claim(worker: str = "worker") -> ClaimedRun:
    run = BatchManager().claim_run(worker)
    assert run is not None
    return run


def ok(*story_ids: str, **values: Any) -> CheckResult:
    return CheckResult(ok=True, http_status=200, stories=[Story(story_id) for story_id in story_ids], **values)


def failed(error: str = "It answers with 500.", **values: Any) -> CheckResult:
    return CheckResult(ok=False, error=error, http_status=500, **values)


def record(run: ClaimedRun, results: Iterable[tuple[int, CheckResult]]) -> None:
    assert BatchManager().record_results(run.batch.pk, run.run_token, results)


def record_one(run: ClaimedRun, result: CheckResult) -> BatchProfile:
    """Record a result for the first pending profile. Returns its row."""
    row = run.batch.profiles.filter(status=BatchProfile.Status.PENDING).order_by("pk").select_related("profile")[0]
    record(run, [(row.profile_id, result)])
    row.refresh_from_db()
    row.profile.refresh_from_db()
    return row


def propose_redirect(old: str, new: str, **values: Any) -> Redirect:
    """A permanent redirect that three checks have seen over three days, from one profile's address to another one."""
    profile, _ = Profile.objects.get_or_create(url=old)
    seen = {"first_seen_at": timezone.now() - timedelta(days=3), "last_seen_at": timezone.now(), "checks": 3}
    return Redirect.objects.create(profile=profile, url=new, **seen | values)


def profile_ids(batch: Batch) -> list[int]:
    return list(batch.profiles.order_by("pk").values_list("profile_id", flat=True))


def row_statuses(batch: Batch) -> list[str]:
    return list(batch.profiles.order_by("pk").values_list("status", flat=True))


def counters(batch: Batch) -> tuple[int, int, int]:
    """How many of its profiles are completed, ok and failed."""
    batch.refresh_from_db()
    return batch.completed_profiles, batch.successful_checks, batch.failed_checks


def waiting_names() -> list[str]:
    """The names of the queued batches in queue order."""
    return list(Batch.objects.queued().order_by("position").values_list("name", flat=True))


def values_of(batch_id: UUID) -> dict[str, Any]:
    return Batch.everything.filter(pk=batch_id).values().get()


def last_line() -> BatchLog:
    return BatchLog.objects.latest("pk")


OUTSIDE = ("", None)


def assert_logged(action: str, batch: Any, before: Any = OUTSIDE, after: Any = OUTSIDE, message: Any = "") -> None:
    """The last entry, by "ada" through the API. `before` and `after` are a status and a position."""
    line = last_line()
    assert (line.action, line.batch, line.actor, line.channel) == (action, batch, "ada", "api")
    assert (line.from_status, line.from_position) == before
    assert (line.to_status, line.to_position) == after
    assert line.message == message


def everything() -> Mapping[str, list[dict[str, Any]]]:
    """Every row of every table, by its columns as the database gives them: many tests compare all again and again."""
    with connection.cursor() as cursor:
        return {model.__name__: _read_rows(cursor, model._meta) for model in MODELS}


def _read_rows(cursor: Any, table: Any) -> list[dict[str, Any]]:
    cursor.execute(f"SELECT * FROM {table.db_table} ORDER BY {table.pk.column}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def restore(rows: Mapping[str, list[dict[str, Any]]]) -> None:
    """Put `everything` that was read into the empty tables."""
    with transaction.atomic(), connection.cursor() as cursor:
        for model in MODELS:
            for row in rows[model.__name__]:
                values = ", ".join(["%s"] * len(row))
                cursor.execute(f"INSERT INTO {model._meta.db_table} VALUES ({values})", list(row.values()))


def remembered(make: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function that fills the empty tables store the rows of its first call again: a tenth of the time.

    Their times are as long ago as they were then, unless the clock stands still. The function returns a batch, its
    run, or a list.
    """
    made: dict[Any, Any] = {}

    @wraps(make)
    def call(*arguments: Any, **options: Any) -> Any:
        if timezone.now is not CLOCK or any(rows for name, rows in everything().items() if name != Queue.__name__):
            return make(*arguments, **options)
        key = connection.vendor, repr(settings.BATCHES), repr(arguments), repr(sorted(options.items()))
        if key not in made:
            found = make(*arguments, **options)
            made[key] = timezone.now(), found, everything()
            return found
        then, found, rows = made[key]
        Queue.objects.all().delete()
        restore(later(rows, timezone.now() - then))
        holder = found.batch if isinstance(found, ClaimedRun) else found
        holder = type(holder).objects.get(pk=holder.pk)
        return replace(found, batch=holder) if isinstance(found, ClaimedRun) else holder

    return call


def later(rows: Mapping[str, list[dict[str, Any]]], by: timedelta) -> Mapping[str, list[dict[str, Any]]]:
    """The rows with all their times moved."""
    times = {
        model.__name__: {field.column for field in model._meta.concrete_fields if isinstance(field, DateTimeField)}
        for model in MODELS
    }

    def move(value: Any) -> Any:
        return str(datetime.fromisoformat(value) + by) if isinstance(value, str) else value + by  # SQLite has texts

    return {
        name: [{key: move(it) if key in times[name] and it else it for key, it in row.items()} for row in found]
        for name, found in rows.items()
    }


@contextmanager
def undone() -> Iterator[None]:
    """A block with all its changes rolled back, so that the next one starts from the same rows."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@contextmanager
def unchanged() -> Iterator[None]:
    """Assert that the block changes no row of any table."""
    before = everything()
    yield
    assert everything() == before


def half_known() -> Batch:
    """A batch of a profile that is read for the first time, with the story "a", and a known one, with "b" and "c"."""
    run = start_run(make_batch("it", 2, count_first=False))
    first, known = profile_ids(run.batch)
    Profile.objects.filter(pk=known).update(first_read_at=timezone.now())
    record(run, [(first, ok("a")), (known, ok("b", "c"))])
    run.batch.refresh_from_db()
    return run.batch


@remembered
def half_checked(status: str, rows: bool = True) -> Batch:
    """A batch "it" in this status with three profiles: one ok with a new story, one failed, one pending.

    Two others are queued: "first", and "last" (behind "it" if that is queued).
    """
    manager = BatchManager()
    it = make_batch("it", 3) if rows else Batch.objects.create(name="it", total_profiles=3)
    check_batch(it, *([ok("new"), failed()] if rows else []))
    if not rows:
        assert manager.update_progress(it.pk, 2, 1, 1)
    make_batch("first")
    make_batch("last")
    for change in WAYS[status]:
        assert change(manager, it.pk)
    end_checks("worker")
    it.refresh_from_db()
    assert it.status == status
    return it


#: The calls that lead from running to each status.
WAYS = {
    Status.RUNNING: [],
    Status.PAUSED: [BatchManager.pause_batch],
    Status.DONE: [BatchManager.complete_batch],
    Status.ERROR: [lambda manager, pk: manager.handle_error(pk, "It broke.")],
    Status.QUEUED: [
        BatchManager.pause_batch,
        BatchManager.queue_batch,
        lambda manager, pk: manager.move_batch(pk, 2),
    ],
}


def assert_sound() -> None:
    """The invariants hold, and the doctor finds nothing."""
    assert_consistent()
    assert diagnose() == []


def assert_consistent() -> None:
    """Invariants, in one snapshot: a worker may start a batch while they are read."""
    with nullcontext() if connection.in_atomic_block else snapshot():
        batches, lists = list(Batch.objects.all()), list(ProfileList.objects.all())
        running = [batch for batch in batches if batch.status == Status.RUNNING]
        assert [batch.position for batch in running] in ([], [0])
        waiting = sorted(batch.position for batch in batches if batch.status == Status.QUEUED)
        assert waiting == list(range(1, len(waiting) + 1))
        for batch in batches:
            assert (batch.position is None) == (batch.status not in {Status.RUNNING, Status.QUEUED})
            assert batch.status == Status.RUNNING or not (batch.leases.exists() or batch.partitions.exists())
            assert (batch.completed_at is not None) == (batch.status == Status.DONE)
            assert bool(batch.error) == (batch.status == Status.ERROR)
            assert_ledger_is_exact(batch)
        assert [found.total_profiles for found in lists] == [found.profiles.count() for found in lists]


def assert_ledger_is_exact(batch: Batch) -> None:
    if rows := row_statuses(batch):
        counters = [len(rows), len(rows) - rows.count("pending"), *map(rows.count, ("ok", "failed", "skipped"))]
        fields = ("total_profiles", "completed_profiles", "successful_checks", "failed_checks", "skipped_profiles")
        assert counters == [getattr(batch, field) for field in fields]

"""Reads and checks the values that callers pass, such as IDs. An invalid value is refused with advice."""

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import TypeGuard, TypeVar

from django.db import IntegrityError, transaction
from django.db.models import Model, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_noop as _

from batches.conf import get_config
from batches.limits import MAX_DELAY, MAX_NAME, MAX_PRIORITY, MAX_SCHEDULE, MAX_STATUS, MIN_PRIORITY
from batches.lists.cron import InvalidSchedule, find_zone
from batches.models import STATUS_WORDS, Batch, ProfileList, Queue
from batches.text import Sentence, clean_text, is_visible, stored_line

from .refusals import NO_BATCH, NO_LIST, Code, NotFound, OrderChanged, Refused

BATCH_NAME = _("A batch needs a name of 1 to %(most)s characters.")
LIST_NAME = _("A list needs a name of 1 to %(most)s characters.")
FEED_NAME = _("A feed needs a name of 1 to %(most)s characters.")
TOKEN_NAME = _("A token needs a name of 1 to %(most)s characters.")
PRIORITY = _("The priority must be a whole number from %(least)s to %(most)s.")
DELAY = _("The delay must be a whole number of minutes from %(least)s to %(most)s.")

M = TypeVar("M", bound=Model)


def require_startable(running: Batch | None, preempt: bool) -> None:
    """Raises Refused while another batch runs, unless the caller wants to interrupt it, or while the queue is held."""
    if running is not None and not preempt:
        raise Refused(
            Code.ANOTHER_RUNNING,
            Sentence("“%(batch)s” is running, and only one batch can run at a time. Pause it first.", batch=running),
        )
    queue = Queue.objects.get()
    if queue.is_blocked:
        why = queue.hold_reason.rstrip(".")
        held = Sentence("The queue is held: %(why)s. Release it first.", why=why)
        raise Refused(Code.QUEUE_HELD, held if why else Sentence("The queue is held. Release it first."))


def require_expected(
    batch: Batch, queue: Queue, status: str | None, version: int | None, batches: QuerySet[Batch] | None
) -> None:
    """Raises Refused if the state that the caller saw has changed. None means that the caller did not check it."""
    if not (version is None or is_int(version)):
        raise Refused(Code.BAD_VALUE, Sentence("The version must be a whole number."))
    if version is not None and version != queue.version:
        raise OrderChanged
    if status is not None and status != batch.status:
        message = Sentence(
            "“%(batch)s” is %(status)s now, and was %(before)s before. Check it and try again.",
            batch=batch,
            status=STATUS_WORDS[batch.status],
            before=STATUS_WORDS.get(status) or clean_text(status, MAX_STATUS),
        )
        raise Refused(Code.STALE_VERSION, message)
    if batches is not None and not batches.filter(pk=batch.pk).exists():
        message = Sentence("“%(batch)s” has changed since it was selected. Check it and try again.", batch=batch)
        raise Refused(Code.STALE_VERSION, message)


def require_passed(batch: Batch, distance: int, fingerprint: str) -> None:
    """Raises Refused if a move would pass other batches than the fingerprint has, or in another order."""
    if fingerprint_of(Batch.objects.passed_by(batch, distance).values_list("pk", flat=True)) != fingerprint:
        raise OrderChanged


def fingerprint_of(batch_ids: Iterable[uuid.UUID]) -> str:
    """A text that identifies these batches and their order, for use in addresses."""
    return sha256(b"".join(pk.bytes for pk in batch_ids)).hexdigest()[:32]


def require_position(position: object) -> None:
    if not is_int(position):
        raise Refused(Code.BAD_VALUE, Sentence("The position must be a whole number."))


def require_within(least: int, most: int, advice: str, value: object) -> int:
    """The value. Raises Refused with the advice unless it is a whole number from `least` to `most`."""
    if not is_int(value) or not least <= value <= most:
        raise Refused(Code.BAD_VALUE, Sentence(advice, least=least, most=most))
    return value


require_priority = partial(require_within, MIN_PRIORITY, MAX_PRIORITY, PRIORITY)
require_delay = partial(require_within, 0, MAX_DELAY, DELAY)


def require_checker(checker: object) -> None:
    known = get_config().all_checkers
    if not isinstance(checker, str) or checker not in known:
        message = Sentence(
            "%(checker)s is not a known checker. Use one of: %(known)s.",
            checker=repr(str(checker)[:50]),
            known=", ".join(known),
        )
        raise Refused(Code.BAD_VALUE, message)


def require_progress(batch: Batch, completed: object, successful: object, failed: object) -> None:
    if not (is_int(completed) and is_int(successful) and is_int(failed)):
        raise Refused(Code.BAD_PROGRESS, Sentence("The three counters must be whole numbers."))
    if min(completed, successful, failed) < 0 or successful + failed > completed or completed > batch.total_profiles:
        message = Sentence(
            "%(ok)s ok and %(failed)s failed of %(completed)s completed of %(total)s profiles do not add up.",
            ok=str(successful),
            failed=str(failed),
            completed=str(completed),
            total=str(batch.total_profiles),
        )
        raise Refused(Code.BAD_PROGRESS, message)
    if batch.has_rows:
        message = Sentence("“%(batch)s” counts its own rows. Report results with record_results instead.", batch=batch)
        raise Refused(Code.BAD_PROGRESS, message)


def clean_name(name: object, advice: str = BATCH_NAME) -> str:
    """The name on one line, without characters that cannot be stored. Raises Refused."""
    usable = stored_line(name) if isinstance(name, str) else ""
    if not 0 < len(usable) <= MAX_NAME:
        raise Refused(Code.BAD_VALUE, Sentence(advice, most=MAX_NAME))
    if not is_visible(usable):
        message = Sentence("Every character of this name is invisible. Enter a name that people can see.")
        raise Refused(Code.BAD_VALUE, message)
    return usable


def is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def as_uuid(value: object) -> uuid.UUID | None:
    if isinstance(value, uuid.UUID):
        return value
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        return uuid.UUID(value)
    except ValueError:
        return None


def as_number(value: object) -> int:
    """The ID of a numbered row; for any other value 0, which no row has."""
    number = str(value) if isinstance(value, int | str) else ""
    return int(number) if number.isascii() and number.isdigit() and len(number) < 19 else 0


def find_batch(batch_id: object, *, lock: bool = False) -> Batch:
    """Raises Refused for any value that is not the ID of a batch."""
    batches: QuerySet[Batch] = Batch.objects.select_for_update(no_key=True) if lock else Batch.objects.all()
    return find_row(batches, as_uuid(batch_id), batch_id, NO_BATCH)


def find_list(list_id: object, *, lock: bool = False) -> ProfileList:
    """Raises Refused for any value that is not the ID of a list."""
    lists = ProfileList.objects.select_for_update(no_key=True) if lock else ProfileList.objects.all()
    return find_row(lists, as_uuid(list_id), list_id, NO_LIST)


def find_row(rows: QuerySet[M], pk: uuid.UUID | int | None, wanted: object, sentence: str) -> M:
    """The row with this primary key. Raises NotFound with `wanted`, the value of the caller."""
    found = rows.filter(pk=pk).first() if pk else None
    if found is None:
        raise NotFound(wanted, sentence)
    return found


def require_list_version(found: ProfileList, version: int | None) -> None:
    """Raises Refused if the list has changed since the caller read it. None means that the caller did not check it."""
    if not (version is None or is_int(version)):
        raise Refused(Code.BAD_VALUE, Sentence("The version must be a whole number."))
    if version is not None and version != found.version:
        raise Refused(Code.STALE_VERSION, Sentence("“%(list)s” has changed. Check it and try again.", list=found))


def require_free_name(name: str, but: ProfileList | None = None) -> None:
    others = ProfileList.objects.exclude(pk=but.pk) if but else ProfileList.objects
    if others.filter(name=name).exists():
        message = Sentence("Another list has the name “%(name)s”. Choose another name.", name=name)
        raise Refused(Code.ALREADY_EXISTS, message)


@contextmanager
def refusing_taken_name(name: str, but: ProfileList | None = None) -> Iterator[None]:
    """A block that writes a list's name. Raises Refused if another call has just stored the same name."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError:
        require_free_name(name, but)
        raise


def clean_schedule(schedule: object) -> str:
    """The cron expression with single blanks; "" for none. `find_next_run` reads it, with its time zone."""
    usable = stored_line(schedule) if isinstance(schedule, str) else None
    if usable is None or len(usable) > MAX_SCHEDULE:
        message = Sentence("A schedule is a text of at most %(most)s characters.", most=MAX_SCHEDULE)
        raise Refused(Code.BAD_VALUE, message)
    return usable


def require_time_zone(zone: object) -> None:
    try:
        find_zone(zone)
    except InvalidSchedule as error:
        raise Refused(Code.BAD_VALUE, str(error)) from error


def require_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Refused(Code.BAD_VALUE, Sentence("Use true or false: it is either on or off."))
    return value


def require_future(until: object) -> None:
    """The end of a hold, with a time zone. None means that a person ends it."""
    if until is None:
        return
    if not isinstance(until, datetime) or timezone.is_naive(until):
        raise Refused(Code.BAD_VALUE, Sentence("The end of a hold must be a time with a time zone."))
    # Within a year: a start after the last day of the calendar cannot be computed.
    if not timezone.now() < until < timezone.now() + timedelta(days=366):
        raise Refused(Code.BAD_VALUE, Sentence("The end of a hold must be in the future, and within a year."))

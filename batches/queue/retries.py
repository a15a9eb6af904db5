"""Chooses the failed profiles to check again: all, those that failed for some reasons, or single ones."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from django.db.models import QuerySet

from batches.limits import MAX_BULK, MAX_ERROR, MAX_ID, MAX_REASONS
from batches.models import Batch, BatchProfile
from batches.text import Sentence, clean_text, pluralise

from .contents import into_chunks
from .refusals import Code, Refused
from .resets import continue_reset
from .values import find_batch, is_int


@dataclass(frozen=True, slots=True)
class Retry:
    """The reasons, or the primary keys of the rows, and the number of profiles. Without both: all failed profiles.

    `line` is the last entry in the log of the batch before its rows were counted.
    """

    reasons: tuple[str, ...] | None = None
    rows: tuple[int, ...] | None = None
    count: int = 0
    line: int | None = None

    @property
    def takes_all(self) -> bool:
        return self.reasons is None and self.rows is None

    def find_rows(self, batch: Batch) -> QuerySet[BatchProfile]:
        """The chosen rows that still have the status `failed`."""
        return batch.profiles.filter(pk__in=self.rows or (), status=BatchProfile.Status.FAILED)

    def describe(self) -> str:
        """For the log."""
        text = f"retrying {pluralise(self.count, 'failed profile')}"
        if self.rows is not None:
            return f"{text} that somebody chose"
        return clean_text(": ".join([text, "; ".join(self.reasons)]) if self.reasons else text, MAX_ERROR)


def choose_failed(batch_id: object, reasons: Iterable[object] | None, profiles: Iterable[object] | None) -> Retry:
    """Choose the rows before the queue is locked: no index has the reasons, so it reads the batch. Raises Refused."""
    if reasons is None and profiles is None:
        return Retry()
    if reasons is not None and profiles is not None:
        raise Refused(Code.BAD_VALUE, Sentence("Choose failed profiles either by reason or one by one."))
    batch = find_batch(batch_id)
    if batch.reset_after is not None:  # rows of another retry may still have the status `failed`
        continue_reset(batch.pk)
    if reasons is not None:
        return _count(batch, _require_reasons(reasons))
    failed = batch.profiles.filter(status=BatchProfile.Status.FAILED)
    ids = _require_ids(profiles or ())
    rows = [pk for chunk in into_chunks(ids) for pk in failed.filter(profile__in=chunk).values_list("pk", flat=True)]
    return Retry(rows=tuple(rows), count=len(rows))


def recount(batch: Batch, retry: Retry) -> Retry:
    """Count the rows of the retry again, under the lock. Raises Refused if there is nothing to check again."""
    if not batch.failed_checks:
        raise Refused(Code.NOTHING_TO_RETRY, Sentence("“%(batch)s” has no failed profiles.", batch=batch))
    if retry.reasons is None:
        count = batch.failed_checks if retry.rows is None else retry.find_rows(batch).count()
        retry = replace(retry, count=count)
    elif retry.line != _read_line(batch):  # it has been checked since
        retry = _count(batch, retry.reasons)
    if not retry.count:
        message = Sentence("None of the failed profiles of “%(batch)s” was chosen.", batch=batch)
        raise Refused(Code.NOTHING_TO_RETRY, message)
    return retry


def _count(batch: Batch, reasons: tuple[str, ...]) -> Retry:
    line = _read_line(batch)
    failed = batch.profiles.filter(status=BatchProfile.Status.FAILED, error__in=reasons)
    return Retry(reasons=reasons, count=failed.count(), line=line)


def _read_line(batch: Batch) -> int | None:
    return batch.logs.newest_first().values_list("pk", flat=True).first()


def _require_reasons(reasons: Iterable[object]) -> tuple[str, ...]:
    texts = tuple(dict.fromkeys(reasons))
    if not (0 < len(texts) <= MAX_REASONS and all(isinstance(text, str) for text in texts)):
        message = Sentence("Choose 1 to %(most)s reasons, as the batch shows them.", most=MAX_REASONS)
        raise Refused(Code.BAD_VALUE, message)
    return tuple(clean_text(text, MAX_ERROR) for text in texts)


def _require_ids(profiles: Iterable[object]) -> list[int]:
    ids = list(dict.fromkeys(profiles))
    if not (0 < len(ids) <= MAX_BULK and all(is_int(pk) and 0 < pk <= MAX_ID for pk in ids)):
        message = Sentence("Choose 1 to %(most)s profiles at a time, by their IDs.", most=MAX_BULK)
        raise Refused(Code.BAD_VALUE, message)
    return ids  # type: ignore[return-value]

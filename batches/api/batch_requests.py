"""The bodies of requests about batches and the queue, and of requests that choose profiles or redirects."""

from typing import Any

from django.db.models import QuerySet
from django.utils.datastructures import MultiValueDict
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from batches.limits import (
    MAX_ERROR,
    MAX_HOST_AND_PORT,
    MAX_ID,
    MAX_NAME,
    MAX_PRIORITY,
    MAX_REASONS,
    MIN_PRIORITY,
)
from batches.models import Action, Batch
from batches.queue.values import as_uuid

from .filters import BulkFilters, refuse_unusable, validate_host
from .request_fields import (
    Body,
    ChoiceField,
    NewBody,
    ProfilesJSON,
    ProfilesUpload,
    ids_field,
    with_examples,
)

BULK_ACTIONS = {
    "queue": Action.QUEUE_BATCH,
    "pause": Action.PAUSE_BATCH,
    "retry": Action.RETRY_FAILED,
    "repeat": Action.REPEAT_BATCH,
    "delete": Action.DELETE_BATCH,
}


class BatchBody(NewBody):
    """A new batch, apart from its profiles."""

    queue = serializers.BooleanField(default=True, help_text="False creates a paused batch.")
    keep = serializers.BooleanField(default=False, help_text="True keeps the profiles as a list of that name.")


@with_examples(
    From_a_list={
        "name": "Press",
        "priority": 5,
        "profiles": ["https://example.org/feed", {"url": "https://example.com/news", "name": "The News"}],
    }
)
class BatchJSON(BatchBody, ProfilesJSON):
    """A new batch with its profiles."""


@with_examples(
    "multipart/form-data",
    From_a_file={"name": "Magazines", "file": "https://example.org/feed\nhttps://example.com/news\n", "queue": False},
)
class BatchUpload(BatchBody, ProfilesUpload):
    """A new batch with its profiles in a file."""


@with_examples(Both={"name": "Press, daily", "priority": 7})
class ChangeBody(Body):
    """The attributes to change."""

    name = serializers.CharField(max_length=MAX_NAME, required=False)
    priority = serializers.IntegerField(min_value=MIN_PRIORITY, max_value=MAX_PRIORITY, required=False)


class OrderBody(Body):
    """A change of the order, decided from a version of the queue."""

    queue_version = serializers.IntegerField(
        min_value=0,
        max_value=MAX_ID,
        required=False,
        help_text="The `version` of the queue that you have seen. If it has changed since, the call is refused.",
    )


@with_examples(Before_all_others={"preempt": True})
class StartBody(OrderBody):
    """Whether the batch may interrupt another one."""

    preempt = serializers.BooleanField(
        default=False, help_text="True interrupts the running batch, which continues afterwards."
    )


@with_examples(To_the_front={"position": 1})
class MoveBody(OrderBody):
    """The new position of a batch."""

    position = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, help_text="A position beyond the last one means the last one."
    )


class UndoBody(Body):
    """The change to undo."""

    entry = serializers.IntegerField(
        min_value=1,
        max_value=MAX_ID,
        required=False,
        help_text="The `id` of the log entry that you have seen. If the batch has changed since, the call is refused.",
    )


@with_examples(With_a_reason={"reason": "The feeds of this list move today."})
class PauseBody(Body):
    """Why a batch is paused."""

    reason = serializers.CharField(
        max_length=MAX_ERROR, allow_blank=True, default="", help_text="Shown with the batch, and in its log."
    )


@with_examples(With_a_reason={"reason": "The network is being repaired."}, Stop_everything={"stop_running": True})
class HoldBody(Body):
    """Why the queue is held, and until when."""

    reason = serializers.CharField(max_length=MAX_ERROR, allow_blank=True, default="")
    until = serializers.DateTimeField(
        required=False,
        allow_null=True,
        default=None,
        help_text="When a worker releases the queue, unless somebody releases it earlier.",
    )
    stop_running = serializers.BooleanField(
        default=False, help_text="True stops the running batch too. It continues as soon as the queue is released."
    )


@with_examples(By_reason={"reasons": ["answered 404 Not Found"]}, One_by_one={"profiles": [17, 18]})
class RetryBody(Body):
    """The failed profiles to check again. Without fields: all."""

    reasons = serializers.ListField(
        child=serializers.CharField(allow_blank=True, max_length=MAX_ERROR),
        min_length=1,
        max_length=MAX_REASONS,
        required=False,
        help_text="Those with exactly one of these errors.",
    )
    profiles = ids_field(help_text="Those with these ids of profiles. Send either reasons or profiles.")


class ChosenBody(Body):
    """Objects with these `ids`, or with `all` true all of them, optionally only at one host."""

    ids = ids_field()
    all = serializers.BooleanField(default=False)
    host = serializers.CharField(max_length=MAX_HOST_AND_PORT, required=False, validators=[validate_host])

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("ids" in attrs) == attrs["all"]:
            raise ValidationError({"ids": ["Send either ids, or all set to true."]})
        if "ids" in attrs and "host" in attrs:
            raise ValidationError({"host": ["Send a host only together with all."]})
        return attrs


@with_examples(By_id={"ids": [17, 18]}, All_at_a_host={"all": True, "host": "example.org", "dry_run": True})
class AcceptBody(ChosenBody):
    """The redirects to accept."""

    dry_run = serializers.BooleanField(default=False, help_text="True only reports what would change.")


@with_examples(By_id={"ids": [17, 18]}, All_that_rest={"all": True, "name": "Are they back?", "priority": 5})
class CheckBody(NewBody, ChosenBody):
    """The profiles to check, and the new batch: those with these `ids`, or with `all` true all that rest."""

    name = serializers.CharField(max_length=MAX_NAME, default="Check now")
    count_first = None  # type: ignore[assignment]  # leaves it out


class BatchFilterField(serializers.DictField):
    """The batches that the list returns with these filters."""

    child = serializers.ListField(child=serializers.CharField(), allow_empty=False)
    default_error_messages = {"empty": "The filter is empty."}

    def to_internal_value(self, data: dict[str, Any]) -> QuerySet[Batch]:  # type: ignore[override]
        values = {name: value if isinstance(value, list) else [value] for name, value in data.items()}
        sent = MultiValueDict(super().to_internal_value(values))
        refuse_unusable(sent, BulkFilters.base_filters)
        filtered = BulkFilters(sent, queryset=Batch.objects.all())
        if filtered.errors:
            raise ValidationError(filtered.errors)
        return filtered.qs  # type: ignore[no-any-return]


@with_examples(
    By_id={"action": "pause", "ids": ["5eedba7c-0000-4000-8000-000000000001"]},
    By_filter={"action": "delete", "filter": {"status": ["done"], "completed_before": "2026-01-01T00:00:00Z"}},
)
class BulkBody(Body):
    """An action, and the batches to apply it to: either `ids` or `filter`."""

    action = ChoiceField(list(BULK_ACTIONS))
    ids = ids_field(serializers.CharField(allow_blank=True))
    filter = BatchFilterField(
        allow_empty=False,
        required=False,
        help_text="Query parameters of the list of batches, without `ordering`.",
    )
    reason = serializers.CharField(
        max_length=MAX_ERROR, allow_blank=True, required=False, help_text="Why the batches are paused."
    )

    def validate_ids(self, ids: list[str]) -> list[str]:
        """Remove repeated ids. An unknown id is not an error of the body, but an outcome."""
        return list(dict.fromkeys(str(as_uuid(text) or text) for text in ids))

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("ids" in attrs) == ("filter" in attrs):
            raise ValidationError({"ids": ["Send either ids or a filter."]})
        if "reason" in attrs and attrs["action"] != "pause":
            raise ValidationError({"reason": ["Only the action pause takes a reason."]})
        return attrs

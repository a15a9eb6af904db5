"""The shapes of the answers that are more than a batch, and of every error."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from batches.models import Batch

from .serializers import BatchSerializer


class RejectSerializer(serializers.Serializer[Any]):
    """An entry of a list that cannot be a profile: `index` (from 0) in a JSON list, `line` (from 1) in a file."""

    index = serializers.IntegerField(required=False)
    line = serializers.IntegerField(required=False)
    text = serializers.CharField(help_text="Its beginning.")
    reason = serializers.CharField()


class CreatedSerializer(serializers.Serializer[Any]):
    """A new batch, how many different profiles went in, how often one was named again, and what was rejected."""

    batch = BatchSerializer()
    accepted = serializers.IntegerField()
    duplicates = serializers.IntegerField()
    rejected = RejectSerializer(many=True)


class OutcomeSerializer(serializers.Serializer[Any]):
    """What became of one batch of many. `code` and `detail` say why not; `status` and `position` are those of the end,
    null where the batch is gone; `made` is the id of its repeat."""

    id = serializers.CharField()
    ok = serializers.BooleanField()
    code = serializers.CharField(allow_null=True)
    detail = serializers.CharField(allow_blank=True)
    status = serializers.ChoiceField(Batch.Status.choices, allow_null=True)
    position = serializers.IntegerField(allow_null=True)
    made = serializers.UUIDField(allow_null=True)


class BulkSerializer(serializers.Serializer[Any]):
    """How many were done and refused, how many that match the filter are left for another request, and each outcome."""

    done = serializers.IntegerField()
    refused = serializers.IntegerField()
    left = serializers.IntegerField()
    outcomes = OutcomeSerializer(many=True)


class ErrorSerializer(serializers.Serializer[Any]):
    """Every error. `code` is for programs and `detail` for people; see `errors` for the codes."""

    code = serializers.CharField()
    detail = serializers.CharField()
    errors = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="400 `invalid`: the messages by field, query parameter or header.",
    )
    rejected = RejectSerializer(many=True, required=False, help_text="400: the entries of the list that caused it.")
    batch = BatchSerializer(required=False, help_text="409: the batch that the call was for, as it is now.")

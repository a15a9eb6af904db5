"""Tables that only the API needs. They stand apart, so that the core runs without Django REST framework."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone
from rest_framework.authtoken.models import Token, TokenProxy

from batches.limits import MAX_FINGERPRINT, MAX_KEY


class StoredResponse(models.Model):
    """The response to a request with an `Idempotency-Key`, written in the transaction of the request's change."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=MAX_KEY)
    fingerprint = models.CharField(max_length=MAX_FINGERPRINT, help_text="Hash of the request.")
    #: NULL between the insertion of the key and the response. One transaction writes both, so nobody sees it.
    status_code = models.PositiveSmallIntegerField(null=True)
    location = models.TextField(blank=True)
    body = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="one_answer_per_key")]

    def __str__(self) -> str:
        return f"the response to {self.key}"


class ApiToken(TokenProxy):
    """A token that is shown by its user's name: its key must not appear on pages or in logs."""

    class Meta:
        # Abstract unless `rest_framework.authtoken` is installed, like its own models: a system check asks for it.
        abstract = Token._meta.abstract
        proxy = not abstract
        verbose_name = "API token"

    def __str__(self) -> str:
        return str(self.user.get_username())

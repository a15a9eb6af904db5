"""Tables that only the API needs. They stand apart, so that the core runs without Django REST framework."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone
from rest_framework.authtoken.models import TokenProxy

from batches.limits import MAX_FINGERPRINT, MAX_KEY


class KeptAnswer(models.Model):
    """What a request of the API with an `Idempotency-Key` was answered: written in the transaction of its change."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=MAX_KEY)
    fingerprint = models.CharField(max_length=MAX_FINGERPRINT, help_text="Of the request.")
    #: NULL between the key's insertion and the answer: nobody sees that, since one transaction writes both.
    status_code = models.PositiveSmallIntegerField(null=True)
    location = models.TextField(blank=True)
    body = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="one_answer_per_key")]

    def __str__(self) -> str:
        return f"the answer to {self.key}"


class ApiToken(TokenProxy):
    """A user's token under the user's name: its own text would be its key, which pages and logs must not show."""

    class Meta:
        proxy = True
        verbose_name = "API token"

    def __str__(self) -> str:
        return str(self.user.get_username())

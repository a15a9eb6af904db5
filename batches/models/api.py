"""Tables that only the API needs."""

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from batches.limits import MAX_FINGERPRINT, MAX_KEY, MAX_NAME, MAX_STATUS

from .keys import Key


class StoredResponse(models.Model):
    """The response to a request with an `Idempotency-Key`, written in the transaction of the request's change.

    A bulk call has several transactions: until the last one, `status_code` is NULL, and `body` has the progress.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=MAX_KEY)
    fingerprint = models.CharField(max_length=MAX_FINGERPRINT, help_text=_("Hash of the request."))
    #: NULL between the insertion of the key and the response.
    status_code = models.PositiveSmallIntegerField(null=True)
    location = models.TextField(blank=True)
    body = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="one_answer_per_key")]

    def __str__(self) -> str:
        return f"the response to {self.key}"


class AccessToken(Key):
    """A key to the API with at most the permissions of its user."""

    class Scope(models.TextChoices):
        READ = "read", _("read")
        ADD = "add", _("read, and add batches")
        OPERATE = "operate", _("everything its user may do")

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_index=False)
    name = models.CharField(max_length=MAX_NAME, help_text=_("What it is for, such as “nightly import”."))
    scope = models.CharField(max_length=MAX_STATUS, choices=Scope.choices, default=Scope.OPERATE)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True, help_text=_("Empty: never."))

    class Meta:
        verbose_name = _("API token")
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="token_names_are_unique")]

    def __str__(self) -> str:
        return f"{self.user.get_username()}: {self.name}"

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

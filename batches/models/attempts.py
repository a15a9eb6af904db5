"""Earlier checks: results that later checks of the same rows have replaced."""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from batches.limits import MAX_STATUS
from batches.text import Sentence, translate

from .batches import STATUS_WORDS, Batch, BatchProfile
from .profiles import Profile


class Attempt(models.Model):
    """The result of an earlier check of a profile in a batch. Only a reset writes it, and nothing changes it.

    It does not refer to the row: PostgreSQL would look for references whenever one of a million rows is deleted.
    """

    #: As in `BatchProfile`.
    RESULT = ("status", "error", "http_status", "duration", "has_story", "checked_at")

    # Without separate indexes: the compound indexes below begin with these columns.
    batch = models.ForeignKey(Batch, models.CASCADE, related_name="attempts", db_index=False)
    profile = models.ForeignKey(Profile, models.CASCADE, related_name="attempts", db_index=False)
    status = models.CharField(max_length=MAX_STATUS, choices=BatchProfile.Status)
    error = models.TextField(blank=True)
    http_status = models.PositiveIntegerField(_("HTTP status"), null=True, blank=True)
    duration = models.FloatField(_("seconds"), null=True, blank=True)
    has_story = models.BooleanField(_("new story"), default=False)
    checked_at = models.DateTimeField(_("checked"))

    class Meta:
        verbose_name = _("earlier check")
        default_permissions = ()  # the permission to view the rows of batches is enough
        constraints = [
            models.CheckConstraint(name="attempt_has_a_result", condition=Q(status__in=["ok", "failed"])),
        ]
        indexes = [
            models.Index(fields=["batch", "id"], name="attempt_keyset"),
            models.Index(fields=["profile", "id"], name="attempt_of_profile"),
        ]

    def __str__(self) -> str:
        return translate(Sentence("%(profile)s (%(status)s)", profile=self.profile, status=STATUS_WORDS[self.status]))

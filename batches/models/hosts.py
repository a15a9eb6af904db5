"""The limits that hosts have asked for, stored from one run to the next."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from batches.limits import MAX_HOST


class Host(models.Model):
    """A host that has asked for fewer requests. Other hosts have no row."""

    name = models.CharField(max_length=MAX_HOST, unique=True)
    not_before = models.DateTimeField(help_text=_("The host gets no request before this time."))
    interval = models.FloatField(default=0.0, help_text=_("Seconds between two requests."))
    refusals = models.PositiveIntegerField(
        default=0, help_text=_("Refused requests in a row, without an answer in between.")
    )
    #: When a worker heard of it. The other busy workers read it by this time.
    noted_at = models.DateTimeField(db_default=Now(), db_index=True, editable=False)
    last_status = models.PositiveSmallIntegerField(_("last HTTP status"), null=True, blank=True)

    class Meta:
        constraints = [models.CheckConstraint(name="host_interval_not_negative", condition=Q(interval__gte=0))]

    def __str__(self) -> str:
        return self.name

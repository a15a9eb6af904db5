"""Permanent redirects of profiles: proposals to change an address, for a person to accept."""

from datetime import timedelta
from typing import Self

from django.db import models
from django.db.models import Exists, F, OuterRef, Subquery
from django.utils.translation import gettext_lazy as _

from batches.limits import MAX_URL

from .profiles import Profile

#: A redirect is proposed when this many checks in a row, over these days, have seen it. Sites that are being moved, or
#: were hijacked for an afternoon, also redirect permanently.
MIN_CHECKS = 3
MIN_AGE = timedelta(days=2)


class RedirectQuerySet(models.QuerySet["Redirect"]):
    def proposed(self) -> Self:
        """The redirects that can be accepted, each with its profile.

        If `merges`, another profile has the new address: `target_id`.
        """
        lasting = self.filter(checks__gte=MIN_CHECKS, last_seen_at__gte=F("first_seen_at") + MIN_AGE)
        known = Profile.objects.filter(url=OuterRef("url"))
        return (
            lasting.select_related("profile")
            .annotate(merges=Exists(known), target_id=Subquery(known.values("pk")))
            .order_by("pk")
        )


class Redirect(models.Model):
    """The address to which a profile redirects, if every hop was permanent (301 or 308)."""

    profile = models.OneToOneField(Profile, models.CASCADE)
    url = models.CharField(_("new address"), max_length=MAX_URL)
    checks = models.PositiveIntegerField(
        default=1, help_text=_("Checks in a row that were redirected to this address.")
    )
    first_seen_at = models.DateTimeField(_("first seen"))
    last_seen_at = models.DateTimeField(_("last seen"))

    objects = models.Manager.from_queryset(RedirectQuerySet)()

    class Meta:
        verbose_name = _("permanent redirect")

    def __str__(self) -> str:
        return f"{self.old_url} → {self.url}"

    @property
    def old_url(self) -> str:
        return self.profile.url

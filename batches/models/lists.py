"""Lists that last: named sets of profiles that can be edited. A batch is one run of a list, or of picked profiles."""

from __future__ import annotations

import uuid
from typing import Self

from django.db import models
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.functional import cached_property

from batches.limits import MAX_CHECKER, MAX_NAME

from .profiles import Profile


class ProfileListQuerySet(models.QuerySet["ProfileList"]):
    def with_totals(self) -> Self:
        """Each with its `total_profiles`, in one query."""
        members = ListProfile.objects.filter(list=OuterRef("pk")).order_by().values("list")
        count = Subquery(members.annotate(count=Count("pk")).values("count"))
        return self.annotate(total_profiles=Coalesce(count, 0))


class ProfileList(models.Model):
    """A named, lasting list of profiles. Only BatchManager changes it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=MAX_NAME, unique=True)
    checker = models.CharField(max_length=MAX_CHECKER, default="feed")
    priority = models.SmallIntegerField(default=0, help_text="Of its runs. Higher goes first.")
    #: Grows with every change of the list; a change that was decided from an older one can be refused.
    version = models.PositiveBigIntegerField(default=1, editable=False)
    created_at = models.DateTimeField("created", default=timezone.now, editable=False)

    objects = models.Manager.from_queryset(ProfileListQuerySet)()

    class Meta:
        verbose_name = "list"

    def __str__(self) -> str:
        return self.name

    @cached_property
    def total_profiles(self) -> int:
        return self.profiles.count()


class ListProfile(models.Model):
    """A profile in a list."""

    # Without indexes of their own: the compound indexes below begin with these columns.
    list = models.ForeignKey(ProfileList, models.CASCADE, related_name="profiles", db_index=False)
    profile = models.ForeignKey(Profile, models.CASCADE, related_name="lists", db_index=False)

    class Meta:
        verbose_name = "profile of a list"
        verbose_name_plural = "profiles of lists"
        constraints = [models.UniqueConstraint(fields=["profile", "list"], name="one_row_per_profile_and_list")]
        indexes = [models.Index(fields=["list", "id"], name="listprofile_keyset")]

    def __str__(self) -> str:
        return str(self.profile)

"""Feeds of the new stories of a list, for everybody with the address."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from batches.limits import MAX_NAME

from .keys import Key
from .lists import ProfileList


class ListFeed(Key):
    """An address at which a list's new stories can be read without an account. Only BatchManager changes it."""

    prefix = "feed_"

    list = models.ForeignKey(ProfileList, models.CASCADE, related_name="feeds", db_index=False)
    name = models.CharField(max_length=MAX_NAME, help_text=_("Who reads it, such as “the newsroom”."))

    class Meta:
        verbose_name = _("feed")
        constraints = [models.UniqueConstraint(fields=["list", "name"], name="feed_names_are_unique")]

    def __str__(self) -> str:
        return f"{self.list}: {self.name}"

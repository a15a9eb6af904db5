"""Profiles, and the stories found at them."""

from typing import Self

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from batches.limits import MAX_FINGERPRINT, MAX_NAME, MAX_STORY_ID, MAX_TITLE, MAX_URL, MAX_VALIDATOR

from .functions import ByBytes


class ProfileQuerySet(models.QuerySet["Profile"]):
    def resting(self) -> Self:
        """Profiles that a scheduled run would leave out now."""
        return self.filter(rests_until__gt=timezone.now())

    def failing(self) -> Self:
        """The profiles that failed their last check."""
        return self.exclude(last_error="")

    def by_address(self) -> Self:
        """Sort in the order of the indexes that find the addresses of a host, and failing profiles."""
        return self.order_by(ByBytes(F("url")))


class Profile(models.Model):
    """An address to check, and the data that its checks remember."""

    url = models.CharField(
        _("address"), max_length=MAX_URL, unique=True, help_text=_("Normalised. This is the address that is fetched.")
    )
    name = models.CharField(max_length=MAX_NAME, blank=True)
    feed_url = models.CharField(
        _("feed address"), max_length=MAX_URL, blank=True, help_text=_("Discovered on the page.")
    )
    etag = models.CharField(_("ETag"), max_length=MAX_VALIDATOR, blank=True)
    last_modified = models.CharField(_("Last-Modified"), max_length=MAX_VALIDATOR, blank=True)
    fingerprint = models.CharField(max_length=MAX_FINGERPRINT, blank=True, help_text=_("Hash of the last document."))
    last_checked_at = models.DateTimeField(_("last check"), null=True, blank=True)
    last_error = models.TextField(blank=True, help_text=_("Empty when the last check was ok."))
    last_duration = models.FloatField(_("duration"), null=True, blank=True, help_text=_("Seconds of the last check."))
    last_story_at = models.DateTimeField(_("last new story"), null=True, blank=True)
    #: The time of the first check that read its stories, which are its baseline.
    first_read_at = models.DateTimeField(_("first read"), null=True, blank=True)
    # Memory of failures. A pause that the host asks for is not a failure of the profile.
    failures = models.PositiveIntegerField(default=0, db_default=0, help_text=_("Failed checks in a row."))
    failing_since = models.DateTimeField(null=True, blank=True, help_text=_("Empty when the last check was ok."))
    #: The number of failures in a row before its last recovery, and the time of the recovery.
    recovered_from = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    recovered_at = models.DateTimeField(null=True, blank=True, editable=False)
    #: Scheduled runs leave it out until then. See `queue/failures.py`.
    rests_until = models.DateTimeField(_("next try"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    objects = models.Manager.from_queryset(ProfileQuerySet)()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="profile_fails_since_its_first_failure",
                condition=Q(failures=0, failing_since__isnull=True, rests_until__isnull=True)
                | Q(failures__gt=0, failing_since__isnull=False),
            )
        ]
        # These indexes contain neither profiles that answer, nor columns that change while they answer, so that updates
        # are HOT: see `BatchProfile`.
        indexes = [
            models.Index(fields=["rests_until"], name="profile_resting", condition=Q(rests_until__isnull=False)),
            # Failing profiles are found by day, by reason and by host. They are a small part of a million.
            models.Index(
                fields=["url"],
                name="profile_failing",
                condition=~Q(last_error=""),
                opclasses=["varchar_pattern_ops"],  # in the order of bytes, for the addresses of a host
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.url


class StoryResultQuerySet(models.QuerySet["StoryResult"]):
    def new(self) -> Self:
        """The stories without the baseline, and without pruned ones, of which only the ID is left."""
        return self.filter(is_baseline=False, found_at__isnull=False)

    def newest_first(self) -> Self:
        """The latest first, with their profiles. Without pruned stories, of which only the ID is left."""
        return self.filter(found_at__isnull=False).select_related("profile").order_by("-pk")


class StoryResult(models.Model):
    """A story seen for the first time. It outlives its batch, so that it never counts as new again."""

    profile = models.ForeignKey(Profile, models.CASCADE, related_name="stories", db_index=False)
    batch = models.ForeignKey("Batch", models.SET_NULL, null=True, related_name="story_results", db_index=False)
    story_id = models.CharField(max_length=MAX_STORY_ID)
    title = models.CharField(max_length=MAX_TITLE, blank=True)
    url = models.CharField(_("address"), max_length=MAX_URL, blank=True)
    published_at = models.DateTimeField(_("published"), null=True, blank=True)
    #: NULL after the story was pruned: only its ID is left, so that it never counts as new again.
    found_at = models.DateTimeField(_("found"), default=timezone.now, null=True)
    is_baseline = models.BooleanField(
        _("baseline"),
        default=False,
        db_default=False,
        help_text=_("Found when the profile was first read, so not new."),
    )

    objects = models.Manager.from_queryset(StoryResultQuerySet)()

    class Meta:
        verbose_name = _("story")
        verbose_name_plural = _("stories")
        constraints = [models.UniqueConstraint(fields=["profile", "story_id"], name="one_result_per_story")]
        indexes = [
            models.Index(fields=["batch", "id"], name="storyresult_keyset"),
            models.Index(fields=["profile", "id"], name="storyresult_of_profile"),
            models.Index(fields=["found_at"], name="storyresult_by_age", condition=Q(found_at__isnull=False)),
            # The first check of a list of a million profiles stores millions of stories that nobody reads.
            models.Index(fields=["id"], name="storyresult_new", condition=Q(is_baseline=False)),
            models.Index(fields=["batch", "id"], name="storyresult_new_of_batch", condition=Q(is_baseline=False)),
        ]

    def __str__(self) -> str:
        return self.title or self.story_id

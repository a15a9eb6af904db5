"""New stories to read, the newest first: of all profiles, or of a list, a batch, a host, a day. Reads only.

The cost of a page does not depend on the number of stories. For a list or a host, it searches a limited number of new
stories, and says how far back it has searched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from django.db.models import F, Max, OuterRef, Q, Subquery, Sum

from batches.models import Batch, ListProfile, Profile, ProfileList, StoryResult
from batches.models.profiles import StoryResultQuerySet

from .failures import start_of
from .queries import match_host

PAGE = 100
#: The number of new stories that a page searches for stories of a list or a host.
LOOKED_THROUGH = 20_000
#: IDs are not exactly in the order of time: stories that are found at the same time are stored in several transactions.
DISORDER = 10_000


@dataclass(frozen=True, slots=True)
class Selection:
    """The filters of the reading list. `after` and `before` are the IDs of stories."""

    list: ProfileList | None = None
    batch: Batch | None = None
    host: str = ""
    day: date | None = None
    after: int = 0
    before: int | None = None

    @property
    def is_searched(self) -> bool:
        """Whether no index finds its stories."""
        return bool(self.list or self.host) and not self.batch


@dataclass(frozen=True, slots=True)
class Page:
    """`older` is the ID before which the next page begins, None on the last page.

    `looked_back_to` is the earliest time that it has searched, if that did not fill the page.
    """

    stories: Sequence[StoryResult]
    older: int | None
    looked_back_to: datetime | None = None


def find_new_stories(selection: Selection) -> StoryResultQuerySet:
    """All new stories of the selection, without an order. Raises InvalidAddress."""
    new = selection.batch.new_stories.order_by() if selection.batch else StoryResult.objects.new()
    found = within_bounds(new, selection)
    if selection.list:
        found = found.alias(member=find_membership(selection.list)).filter(member__isnull=False)
    if selection.host:
        found = found.alias(at_host=find_at_host(selection.host)).filter(at_host__isnull=False)
    return found


# Each subquery is about one story. A join would begin with all profiles of the list or host, and PostgreSQL turns
# `Exists` into a join.


def find_membership(found: ProfileList) -> Subquery:
    """The condition that the profile is currently in the list."""
    members = ListProfile.everything.of_list(found).filter(profile=OuterRef("profile"))
    return Subquery(members.order_by().values("pk")[:1])


def find_at_host(host: str) -> Subquery:
    profiles = Profile.objects.filter(match_host("url", host), pk=OuterRef("profile"))
    return Subquery(profiles.values("pk")[:1])


def is_of_day(day: date) -> Q:
    """Found on this day of the project's time zone. Bounds of the ID let it use the index of new stories."""
    start, end = (start_of(day + timedelta(days=number)) for number in (0, 1))
    first, behind = find_first(start), find_first(end)
    condition = Q(found_at__gte=start, found_at__lt=end)
    if first is None:
        return condition & Q(pk__lt=0)
    condition &= Q(pk__gte=first - DISORDER)
    return condition if behind is None else condition & Q(pk__lt=behind + DISORDER)


def find_first(moment: datetime) -> int | None:
    """The first story that was found from this moment on."""
    found = StoryResult.objects.filter(found_at__gte=moment).order_by("found_at")
    return found.values_list("pk", flat=True).first()


def read_page(selection: Selection) -> Page:
    found = find_new_stories(selection)
    start = find_start(selection) if selection.is_searched else None
    if selection.is_searched:  # even from 0: the bound makes SQLite use the index of new stories
        found = found.filter(pk__gte=start or 0)
    stories = list(found.newest_first()[: PAGE + 1])
    if len(stories) > PAGE:
        return Page(stories[:PAGE], stories[PAGE - 1].pk)
    if start is None:
        return Page(stories, None)
    looked_back_to = StoryResult.objects.filter(pk=start).values_list("found_at", flat=True).first()
    return Page(stories, start, looked_back_to)


def within_bounds(stories: StoryResultQuerySet, selection: Selection) -> StoryResultQuerySet:
    """Those before and after the stories of the selection, and of its day."""
    if selection.before is not None:
        stories = stories.filter(pk__lt=selection.before)
    if selection.after:
        stories = stories.filter(pk__gt=selection.after)
    if selection.day:
        stories = stories.filter(is_of_day(selection.day))
    return stories


def find_start(selection: Selection) -> int | None:
    """The last story that the page searches; None if fewer are left."""
    new = within_bounds(StoryResult.objects.filter(is_baseline=False).order_by("-pk"), selection)
    return new.values_list("pk", flat=True)[LOOKED_THROUGH : LOOKED_THROUGH + 1].first()


@dataclass(frozen=True, slots=True)
class ListWithStories:
    list_id: UUID
    name: str
    stories: int


def find_lists_with_stories(day: date, limit: int) -> list[ListWithStories]:
    """Lists with new stories in runs that were done on this day, those with the most first."""
    done = Batch.objects.filter(status=Batch.Status.DONE, completed_at__gte=start_of(day), list__deleted_at=None)
    runs = done.filter(completed_at__lt=start_of(day + timedelta(days=1)), list__isnull=False, stories_found__gt=0)
    sums = runs.order_by().values_list("list", "list__name").annotate(found=Sum("stories_found"))
    return [ListWithStories(*row) for row in sums.order_by("-found", "list__name")[:limit]]


# Feeds

#: How many stories a feed has, at most.
FEED_STORIES = 100
#: In a list with at most FEW_PROFILES, the latest story of each profile is looked up. For a longer list, the
#: LATEST_STORIES of all lists are searched, which usually contain enough of its stories.
FEW_PROFILES = 5_000
LATEST_STORIES = 50_000


def fetch_new_stories(found: ProfileList) -> list[StoryResult]:
    """The latest new stories of the list's current profiles, whichever batch found them."""
    if found.total_profiles > FEW_PROFILES:
        oldest = (StoryResult.objects.aggregate(latest=Max("pk"))["latest"] or 0) - LATEST_STORIES
        return list(find_new_stories(Selection(list=found, after=oldest)).newest_first()[:FEED_STORIES])
    members, new = ListProfile.everything.of_list(found).order_by(), StoryResult.objects.new()
    latest = Subquery(new.filter(profile=OuterRef("profile")).order_by("-pk").values("pk")[:1])
    rows = members.annotate(latest=latest).order_by(F("latest").desc(nulls_last=True))
    profiles = {pk: story for pk, story in rows.values_list("profile", "latest")[:FEED_STORIES] if story}
    if len(profiles) == FEED_STORIES:  # from here on, each has at least one story
        new = new.filter(pk__gte=min(profiles.values()))
    return list(new.filter(profile__in=profiles).newest_first()[:FEED_STORIES])

"""Forgets profiles: deletes each with its stories, its rows in all batches, its memberships, and its address in texts.

A profile may be in 10,000 batches, so its rows are deleted in bounded transactions. Each removes the rows of some
batches together with their counts, so the ledger of every batch is always exact; a running batch first absorbs the
counts of its leases. The profile itself is deleted last. A transaction that stores a row for it holds its key until the
commit (`sql.keeping`), so no row is left behind. Lock order: queue → batches → leases; lists → profile.
"""

from __future__ import annotations

import re
import uuid
from collections import defaultdict
from collections.abc import Collection
from dataclasses import astuple, dataclass

from django.apps import apps
from django.db import transaction
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Now, Replace

from batches.limits import MAX_NAME
from batches.models import (
    COUNTER_OF,
    Action,
    Attempt,
    Batch,
    BatchLog,
    BatchProfile,
    ListProfile,
    Profile,
    ProfileList,
    Queue,
    Redirect,
    StoryResult,
)
from batches.models.api import StoredResponse
from batches.notifications import message_data
from batches.text import Sentence, pluralise

from .contents import remove_rows
from .editions import require_settled, settle_all
from .leases import end_leases
from .lists import ListCalls, lock_lists_with
from .refusals import NO_PROFILE, Code, NotFound, Refused, refusable
from .resets import finish_resets
from .sql import taking_turns
from .values import as_number, find_row

if apps.is_installed("django.contrib.admin"):
    from django.contrib.admin.models import LogEntry

#: Batches that one transaction changes under the lock of the queue. 100 held it for 0.3 s on a busy machine.
BATCHES_AT_ONCE = 20

#: How often it begins again because others have stored the profile in the meantime.
ATTEMPTS = 10

#: Replaces an address in the log and in other texts.
FORGOTTEN = "(forgotten)"
LOGGED = "A profile was forgotten."
#: Log entries with these actions have addresses, as "old → new".
NAMING_ACTIONS = (Action.CORRECT_ADDRESS, Action.ACCEPT_REDIRECT)


@dataclass(frozen=True, slots=True)
class Traces:
    """The numbers of stored rows about profiles: rows in batches, stories, and memberships in lists."""

    profiles: int = 0
    rows: int = 0
    stories: int = 0
    lists: int = 0

    def __add__(self, other: Traces) -> Traces:
        return Traces(*(own + more for own, more in zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        return (
            f"{pluralise(self.rows, 'row')} in batches, {pluralise(self.stories, 'story', 'stories')} "
            f"and {pluralise(self.lists, 'membership')} in lists"
        )


def count_traces(profiles: Collection[Profile]) -> Traces:
    """Count the rows that `forget_profile` would delete."""
    return Traces(
        len(profiles),
        BatchProfile.objects.filter(profile__in=profiles, batch__deleted_at=None).count(),
        StoryResult.objects.filter(profile__in=profiles).count(),
        ListProfile.objects.filter(profile__in=profiles).count(),
    )


class BeingStored(Refused):
    def __init__(self) -> None:
        message = Sentence("A batch or a list with this profile is being stored. Try again in a minute.")
        super().__init__(Code.BEING_ADDED, message)


class ForgetCalls(ListCalls):
    @refusable
    def forget_profile(self, profile_id: object) -> Traces:
        """Delete a profile with everything that is stored about it. Returns the numbers.

        Refused while a batch with the profile is being stored. The result of a running check is not recorded. If the
        call is interrupted, repeat it. The address is not blocked: if it is added again, it becomes a new profile.
        """
        found = find_profile(profile_id)
        traces = count_traces([found])
        for _ in range(ATTEMPTS):
            self._forget_in_batches(found)
            if self._delete_profile(found, traces):
                break
        else:
            raise BeingStored
        erase_lines(find_lines_with(found.url))  # somebody may have accepted a redirect to it
        message_data.forget_profile(found.pk)  # a message may have been prepared from the remaining rows
        return traces

    def _forget_in_batches(self, found: Profile) -> None:
        """Raises Refused if one of them is being stored: its number of profiles is not known yet."""
        adding = Batch.everything.in_preparation().filter(profiles__profile=found)
        if adding.exists() or find_new_memberships(found).exists():
            raise BeingStored
        finish_resets()  # until then, counters and rows differ
        remove_rows(StoryResult.objects.filter(profile=found, batch=None).order_by("pk"))
        batch_ids = find_batches_with(found)
        for first in range(0, len(batch_ids), BATCHES_AT_ONCE):
            with taking_turns(), Queue.objects.locked():
                self._forget_in(found, batch_ids[first : first + BATCHES_AT_ONCE])

    def _forget_in(self, found: Profile, batch_ids: Collection[uuid.UUID]) -> None:
        # Of a deleted batch, nobody reads the counters, whether they are exact or not.
        wanted = Q(deleted_at=None, reset_after=None) | Q(deleted_at__lte=Now())
        batches = list(Batch.everything.select_for_update(no_key=True).filter(wanted, pk__in=batch_ids).order_by("pk"))
        for batch in batches:
            if batch.status == Batch.Status.RUNNING:  # waits for results that are just being recorded
                end_leases(batch, ())
                batch.refresh_from_db()
        uncount_rows(found, batches)
        uncount_stories(found, batches)
        self._log_all(batches, Action.FORGET_PROFILE, LOGGED)

    def _delete_profile(self, found: Profile, traces: Traces) -> bool:
        """False if it is still in a batch."""
        naming = find_lines_with(found.url)
        message_data.forget_profile(found.pk)
        settle_all()
        memberships = ListProfile.everything.filter(profile=found, list__deleted_at=None)
        with transaction.atomic():
            lists = lock_lists_with(memberships)
            for changed in lists:
                require_settled(changed)  # an edit has counted the profile
            # Lock its key: from here on, nobody can store a row for it.
            locked = Profile.objects.select_for_update().filter(pk=found.pk).first()
            if locked is None:
                raise NotFound(found.pk, NO_PROFILE)
            if (
                locked.url != found.url
                or BatchProfile.objects.filter(profile=found).exists()
                or StoryResult.objects.filter(profile=found).exists()
                or memberships.exclude(list__in=lists).exists()
                or find_new_memberships(found).exists()
            ):
                found.refresh_from_db()
                return False
            erase_from_texts(found, naming)
            for changed in lists:
                self._write(changed, Action.FORGET_PROFILE, LOGGED, total_profiles=F("total_profiles") - 1)
            self._log(None, Action.FORGET_PROFILE, f"{LOGGED} With it: {traces}.")
            locked.delete()
        return True


def find_profile(profile_id: object) -> Profile:
    """Raises Refused for any value that is not the ID of a profile."""
    return find_row(Profile.objects.all(), as_number(profile_id), profile_id, NO_PROFILE)


def find_new_memberships(found: Profile) -> QuerySet[ListProfile]:
    """Its rows in lists that are being stored."""
    return ListProfile.everything.filter(profile=found, list__in=ProfileList.everything.in_preparation())


def find_batches_with(found: Profile) -> list[uuid.UUID]:
    """The batches with a row or a story of the profile. After a merge, a batch may have only stories."""
    rows = BatchProfile.objects.filter(profile=found).values_list("batch_id", flat=True)
    stories = StoryResult.objects.filter(profile=found, batch__isnull=False).values_list("batch_id", flat=True)
    return sorted({*rows, *filter(None, stories.distinct())})


def uncount_rows(found: Profile, batches: Collection[Batch]) -> None:
    """Delete its rows and earlier checks in these locked batches, and subtract them from the counters."""
    rows = BatchProfile.objects.filter(profile=found, batch__in=batches)
    by_status = defaultdict[str, list[uuid.UUID]](list)
    for batch_id, status in rows.values_list("batch_id", "status"):
        by_status[status].append(batch_id)
    for status, batch_ids in by_status.items():
        counters = ["completed_profiles", COUNTER_OF[status]] if status in COUNTER_OF else []
        less = {name: F(name) - 1 for name in ["total_profiles", *counters]}
        Batch.objects.filter(pk__in=batch_ids).update(**less)
    rows.delete()
    Attempt.objects.filter(profile=found, batch__in=batches).delete()


def uncount_stories(found: Profile, batches: Collection[Batch]) -> None:
    stories = StoryResult.objects.filter(profile=found, batch__in=batches)
    new = defaultdict[uuid.UUID, list[int]](list)
    for batch_id, pk in stories.filter(is_baseline=False).values_list("batch_id", "pk"):
        new[batch_id].append(pk)
    for batch in batches:
        if included := count_included(batch, new[batch.pk]):
            Batch.everything.filter(pk=batch.pk).update(stories_found=F("stories_found") - included)
    stories.delete()


def count_included(batch: Batch, stories: Collection[int]) -> int:
    """The number of these new stories that its `stories_found` includes, which excludes stories of earlier checks.

    Both databases would look for them among all stories of the profile, for each batch: 5 s for a hundred.
    """
    if not (stories and batch.stories_found):
        return 0
    oldest = next(iter(batch.oldest_counted), 0)
    return sum(pk >= oldest for pk in stories)


# Texts. They do not refer to profiles, so they are found by the address.


def find_lines_with(address: str) -> list[int]:
    """The log entries with the address, or with a former address of the profile."""
    lines = BatchLog.objects.filter(action__in=NAMING_ACTIONS)
    addresses, found = [address], set[int]()
    for name in addresses:  # grows with each former address
        for pk, message in lines.filter(message__contains=name).values_list("pk", "message"):
            named = re.split(r" → | \(merged\)$", message)
            if name in named and pk not in found:
                found.add(pk)
                addresses += [other for other in named if other and other not in addresses]
    return sorted(found)


def erase_from_texts(found: Profile, lines: Collection[int]) -> None:
    erase_lines(lines)
    Redirect.objects.filter(url=found.url).delete()  # of other profiles to this one
    quoted = f'"{found.url}"'
    erased = Replace("body", Value(quoted), Value(f'"{FORGOTTEN}"'))
    StoredResponse.objects.filter(body__contains=quoted).update(body=erased)
    if apps.is_installed("django.contrib.admin"):  # the admin's history names each edited row
        names = {found.url[:MAX_NAME], found.name[:MAX_NAME]} - {""}
        edited = LogEntry.objects.filter(content_type__app_label="batches", content_type__model="listprofile")
        edited.filter(object_repr__in=names).update(object_repr=FORGOTTEN)


def erase_lines(lines: Collection[int]) -> None:
    BatchLog.objects.filter(pk__in=lines).update(message=FORGOTTEN)

"""The calls of BatchManager that change lists. The queue is locked only when a run is revealed or a list is deleted.

Lock order: queue → list → batch → profiles. Unknown profiles are stored beforehand. A new list is hidden until all its
profiles are stored, and a long edit is staged (see `editions.py`): no transaction grows with a list. A run reads the
profiles in one statement, so that it gets one exact version of its list.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from batches.lists.cron import InvalidSchedule, require_schedule
from batches.models import Action, Batch, ListProfile, Profile, ProfileList, Queue, Redirect
from batches.text import Sentence, choose_plural, pluralise

from .contents import (
    Profiles,
    clean_profiles,
    copy_list_profiles,
    hidden,
    insert_profiles,
    purge_deleted,
    require_preparation,
    stay_hidden,
)
from .editions import Edit, is_long, require_settled, settle, staged
from .members import ListChange, compare, find_profiles, insert_members, insert_members_of_batch
from .refusals import Code, Refused, at_once, refusable
from .schedules import choose_next_run
from .transitions import CODE_BY_STATUS
from .values import (
    LIST_NAME,
    clean_name,
    clean_schedule,
    find_list,
    refusing_taken_name,
    require_checker,
    require_delay,
    require_flag,
    require_free_name,
    require_list_version,
    require_priority,
    require_time_zone,
)
from .writer import QueueWriter

#: The memory of checks, reset for a new address, which has not been checked yet.
NO_MEMORY: Mapping[str, Any] = {
    "last_checked_at": None,
    "last_error": "",
    "last_duration": None,
    "feed_url": "",
    "etag": "",
    "last_modified": "",
    "fingerprint": "",
    "first_read_at": None,
    "failures": 0,
    "failing_since": None,
    "rests_until": None,
}


#: Yields the call that reveals an edit.
PreparedEdit = AbstractContextManager[Callable[[], ListChange]]

#: The attributes that determine when a list runs.
SCHEDULE = frozenset({"schedule", "time_zone", "delay_minutes", "schedule_active"})

REQUIRE: Mapping[str, Callable[[object], object]] = {
    "priority": require_priority,
    "checker": require_checker,
    "count_first": require_flag,
    "time_zone": require_time_zone,
    "delay_minutes": require_delay,
    "schedule_active": require_flag,
}


class ListCalls(QueueWriter):
    """Changes lists. Each call takes the `expected_version` of the list that its caller decided from."""

    @contextmanager
    def preparing_list(
        self,
        name: str,
        profiles: Profiles = (),
        priority: int = 0,
        checker: str = "feed",
        id: uuid.UUID | None = None,
        count_first: bool = False,
    ) -> Iterator[Callable[[], ProfileList]]:
        """Create a list, all or nothing.

        If the caller chooses the `id`, a second call is refused as `already_exists`.
        """
        name = clean_name(name, LIST_NAME)
        require_priority(priority)
        require_checker(checker)
        require_flag(count_first)
        require_free_name(name)
        names = clean_profiles(profiles)
        created = ProfileList(
            id=id or uuid.uuid4(), name=name, priority=priority, checker=checker, count_first=count_first
        )
        with hidden(created):
            fence = partial(stay_hidden, created)
            insert_profiles(names, fence)
            total = insert_members(created.pk, names, 0, fence)
            yield lambda: self._reveal_list(created, total)

    create_list = at_once(preparing_list)

    def _reveal_list(self, created: ProfileList, total: int) -> ProfileList:
        """Show a hidden list when its profiles are complete."""
        with transaction.atomic():
            unseen = ProfileList.everything.in_preparation().filter(pk=created.pk)
            with refusing_taken_name(created.name):
                require_preparation(unseen.update(total_profiles=total, deleted_at=None))
            created.refresh_from_db()
            self._log(None, Action.CREATE_LIST, pluralise(total, "profile"), list_id=created.pk)
        return created

    @contextmanager
    def _preparing_first_run(self, batch: Batch) -> Iterator[Callable[[int, bool], Batch]]:
        """Prepare a new list with the profiles and the name of a hidden batch.

        Yields the call that reveals both, or neither.
        """
        kept = ProfileList(
            name=batch.name, priority=batch.priority, checker=batch.checker, count_first=batch.count_first
        )
        with hidden(kept):
            insert_members_of_batch(kept.pk, batch.pk, partial(stay_hidden, kept))

            def reveal(total: int, queue: bool) -> Batch:
                with Queue.objects.locked():
                    found = self._reveal_list(kept, total)
                    return self._reveal(batch, Action.CREATE_BATCH, total, queue, list=found)

            yield reveal

    @refusable
    def change_list(self, list_id: object, expected_version: int | None = None, **values: Any) -> Literal[True]:
        """Set its `name`, or one of `REQUIRE` and `schedule`.

        Its existing runs keep theirs. A changed schedule begins now, without making up for missed runs.
        """
        with self._changing(list_id, expected_version) as changed:
            before = {name: getattr(changed, name) for name in values}
            news = {name: value for name in values if (value := _clean(name, values[name])) != before[name]}
            if news:
                message = ", ".join(f"{name}: “{before[name]}” → “{value}”" for name, value in news.items())
                next_run = find_next_run(changed, news) if SCHEDULE & news.keys() else {}
                with refusing_taken_name(news.get("name", changed.name), but=changed):
                    self._write(changed, Action.CHANGE_LIST, message, **news, **next_run)
        return True

    def preparing_addition(
        self, list_id: object, profiles: Profiles, expected_version: int | None = None
    ) -> PreparedEdit:
        """Add the profiles that it does not have yet."""
        found = find_list(list_id)
        names = clean_profiles(profiles)
        insert_profiles(names)

        def add(edit: Edit) -> ListChange:
            return ListChange(added=edit.insert(names), unchanged=edit.total)

        return self._preparing_edit(found, expected_version, Action.ADD_PROFILES, len(names), add)

    add_profiles = at_once(preparing_addition)

    def preparing_removal(
        self, list_id: object, profiles: Profiles, expected_version: int | None = None
    ) -> PreparedEdit:
        """Remove the profiles that it has. Their history is kept, and other lists keep them."""
        found = find_list(list_id)
        names = clean_profiles(profiles)

        def remove(edit: Edit) -> ListChange:
            removed = edit.remove(find_profiles(names))
            return ListChange(removed=removed, unchanged=edit.total - removed)

        return self._preparing_edit(found, expected_version, Action.REMOVE_PROFILES, len(names), remove)

    remove_profiles = at_once(preparing_removal)

    def preparing_sync(
        self,
        list_id: object,
        profiles: Profiles,
        allow_removals: bool = False,
        expected_version: int | None = None,
    ) -> PreparedEdit:
        """Make it contain exactly these profiles. Removing more than a tenth is refused unless the caller allows it."""
        found = find_list(list_id)
        names = clean_profiles(profiles)
        _require_allowed(found, compare(found.pk, names)[0], allow_removals)  # before anything is stored
        insert_profiles(names)

        def sync(edit: Edit) -> ListChange:
            change, gone = compare(found.pk, names)
            _require_allowed(found, change, allow_removals)
            removed = edit.remove(gone)
            added = edit.insert(names)  # without profiles that were forgotten since they were stored
            return ListChange(added, removed, change.unchanged)

        size = found.total_profiles + len(names)
        return self._preparing_edit(found, expected_version, Action.SYNC_LIST, size, sync)

    sync_list = at_once(preparing_sync)

    @refusable
    def preview_sync(self, list_id: object, profiles: Profiles, expected_version: int | None = None) -> ListChange:
        """The change that `sync_list` would make. Changes nothing."""
        found = find_list(list_id)
        require_list_version(found, expected_version)
        return compare(found.pk, clean_profiles(profiles))[0]

    @refusable
    def correct_address(
        self, list_id: object, address: str, new_address: str, expected_version: int | None = None
    ) -> Literal[True]:
        """Correct the address of a profile, in every list. Its checks and its stories are kept.

        The address of another profile is refused: two histories cannot become one.
        """
        [old], [new] = clean_profiles([address]), clean_profiles([new_address])
        with transaction.atomic():
            lists = lock_lists_with(ListProfile.objects.filter(profile__url=old))
            found = find_list(list_id)
            require_list_version(found, expected_version)
            if found not in lists:
                message = Sentence("“%(list)s” has no profile with the address %(address)s.", list=found, address=old)
                raise Refused(Code.NOT_FOUND, message)
            if old != new:
                give_address(old, new)
                for changed in lists:
                    self._write(changed, Action.CORRECT_ADDRESS, f"{old} → {new}")
        return True

    @refusable
    def delete_list(self, list_id: object, expected_version: int | None = None) -> Literal[True]:
        """Delete it with its subscriptions and feeds. Its profiles, its runs and their results are kept."""
        # Lock the queue, since this also writes to its runs, which somebody may be shifting.
        with Queue.objects.locked():
            deleted = lock_list(list_id, expected_version)
            total = pluralise(deleted.total_profiles, "profile")
            self._log(None, Action.DELETE_LIST, f"“{deleted}” ({deleted.pk}) with {total}")
            list(deleted.subscriptions.select_for_update().order_by("pk"))  # before their deliveries, as others do
            deleted.subscriptions.all().delete()
            deleted.feeds.all().delete()
            deleted.runs.update(list=None)
            ProfileList.objects.filter(pk=deleted.pk).update(deleted_at=Now())
        transaction.on_commit(purge_deleted)
        return True

    # Runs

    @contextmanager
    def preparing_run(self, list_id: object, id: uuid.UUID | None = None) -> Iterator[Callable[[], Batch]]:
        """Queue a batch of its current profiles. Refused while another of its runs waits or runs.

        If the caller chooses the `id`, a second call is refused, as in `create_batch`.
        """
        found = find_list(list_id)
        require_no_run(found)
        batch = new_batch_of(found, id)

        def reveal() -> Batch:
            with Queue.objects.locked():
                require_no_run(find_list(list_id))
                latest = Batch.objects.filter(list=found).order_by("-created_at").first()
                return self._reveal(batch, Action.RUN_LIST, copied, previous=latest)

        with hidden(batch):
            copied = copy_list_profiles(found.pk, batch)
            yield reveal

    run_list = at_once(preparing_run)

    # Parts

    @contextmanager
    def _changing(self, list_id: object, expected_version: int | None) -> Iterator[ProfileList]:
        """A transaction in which nobody else changes the list."""
        with transaction.atomic():
            yield lock_list(list_id, expected_version)

    def _write(self, changed: ProfileList, action: Action, message: str, **values: Any) -> None:
        ProfileList.objects.filter(pk=changed.pk).update(version=F("version") + 1, **values)
        self._log(None, action, message, list_id=changed.pk)

    @contextmanager
    def _preparing_edit(
        self,
        found: ProfileList,
        expected_version: int | None,
        action: Action,
        profiles: int,
        make: Callable[[Edit], ListChange],
    ) -> Iterator[Callable[[], ListChange]]:
        """Stage the edit if it is long. Yields the call that reveals it, or that makes it in one transaction."""

        def reveal() -> ListChange:
            with self._changing(found.pk, expected_version) as changed:
                return self._write_edit(changed, action, edit, change)

        def make_at_once() -> ListChange:
            with self._changing(found.pk, expected_version) as changed:
                require_settled(changed)
                edit = Edit(changed.pk, changed.edition, changed.total_profiles)
                return self._write_edit(changed, action, edit, make(edit))

        settle(found.pk)
        if is_long(profiles):
            with staged(found.pk) as edit:
                change = make(edit)
                yield reveal
        else:
            yield make_at_once

    def _write_edit(self, changed: ProfileList, action: Action, edit: Edit, change: ListChange) -> ListChange:
        if change.added or change.removed:
            edit.reveal(change)
            total = F("total_profiles") + change.added - change.removed
            self._write(changed, action, str(change), total_profiles=total)
        return change

    @refusable
    def _recount(self, list_id: uuid.UUID) -> None:
        with self._changing(list_id, None) as changed:
            total = changed.profiles.count()
            self._write(changed, Action.REPAIR_ROWS, f"counted {pluralise(total, 'profile')}", total_profiles=total)


def give_address(old: str, new: str) -> None:
    """Write the address of a profile, and reset the memory of the old one. Raises Refused."""
    try:
        with transaction.atomic():
            Profile.objects.filter(url=old).update(url=new, **NO_MEMORY)
    except IntegrityError as error:
        message = Sentence(
            "The address %(new)s is already a profile. Remove %(old)s, then add %(new)s.", old=old, new=new
        )
        raise Refused(Code.ALREADY_EXISTS, message) from error
    Redirect.objects.filter(profile__url=new).delete()


def lock_list(list_id: object, expected_version: int | None) -> ProfileList:
    found = find_list(list_id, lock=True)
    require_list_version(found, expected_version)
    return found


def lock_lists_with(members: QuerySet[ListProfile]) -> list[ProfileList]:
    """The lists with these rows of a profile. All calls that lock several lists lock them in this order."""
    having = members.values_list("list", flat=True)
    locked = list(ProfileList.objects.select_for_update(no_key=True).filter(pk__in=having).order_by("pk"))
    still = set(having)  # PostgreSQL chose them before it waited for others, who may have removed the profile
    return [found for found in locked if found.pk in still]


def new_batch_of(source: ProfileList | Batch, id: uuid.UUID | None = None) -> Batch:
    """A run of the list or a repeat of the batch, which is hidden while its rows are stored."""
    return Batch(
        id=id or uuid.uuid4(),
        name=source.name,
        priority=source.priority,
        checker=source.checker,
        count_first=source.count_first,
        list=source if isinstance(source, ProfileList) else None,
    )


def require_no_run(found: ProfileList) -> None:
    """Raises Refused while a run of the list waits or runs."""
    run = Batch.objects.filter(list=found, position__isnull=False).first()
    if run is not None:
        position = run.position
        message = (
            Sentence("A run of “%(list)s” is already waiting at position %(position)s.", list=found, position=position)
            if position
            else Sentence("A run of “%(list)s” is already running.", list=found)
        )
        raise Refused(CODE_BY_STATUS[run.status], message)


def _clean(name: str, value: Any) -> Any:
    """The value of this attribute of a list. Raises Refused."""
    if name == "name":
        return clean_name(value, LIST_NAME)
    if name == "schedule":
        return clean_schedule(value)
    REQUIRE[name](value)
    return value


def find_next_run(changed: ProfileList, news: Mapping[str, Any]) -> dict[str, datetime | None]:
    """The `next_run_at` for the schedule after this change. Raises Refused if the schedule is not valid."""
    for name, value in news.items():
        setattr(changed, name, value)
    if not changed.schedule:
        return {"next_run_at": None}
    now, delay = timezone.now(), timedelta(minutes=changed.delay_minutes)
    try:
        require_schedule(changed.schedule, changed.time_zone, delay, now)
        return {"next_run_at": choose_next_run(changed, now) if changed.schedule_active else None}
    except InvalidSchedule as error:
        raise Refused(Code.BAD_VALUE, str(error)) from error


def _require_allowed(found: ProfileList, change: ListChange, allow_removals: bool) -> None:
    if change.removes_much and not allow_removals:
        message = choose_plural(
            "This would remove the only profile of “%(list)s”. Check the list, then confirm the removal.",
            "This would remove %(removed)s of the %(count)s profiles of “%(list)s”, more than a tenth. "
            "Check the list, then confirm the removals.",
            count=change.removed + change.unchanged,
            removed=change.removed,
            list=found,
        )
        raise Refused(Code.TOO_MANY_REMOVALS, message)

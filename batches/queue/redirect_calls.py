"""The calls of BatchManager that accept permanent redirects that checks have seen for days, one by one or many."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import F

from batches.models import Action, Lease, ListProfile, Profile, ProfileList, Redirect, StoryResult
from batches.text import Sentence

from .editions import require_settled
from .lists import ListCalls, lock_lists_with
from .refusals import NO_REDIRECT, Code, Refusal, Refused, refusable
from .sql import paced
from .values import as_number, find_row


@dataclass(frozen=True, slots=True)
class AcceptedRedirect:
    """The profile with the new address. If it existed before, the old profile was merged into it."""

    profile_id: int
    old_url: str
    url: str
    merged: bool

    def __str__(self) -> str:
        return f"{self.old_url} → {self.url}{' (merged)' if self.merged else ''}"


class RedirectCalls(ListCalls):
    """Accepts redirects. Lock order: lists → leases → profiles → redirects, as checks note them."""

    @refusable
    def accept_redirect(self, redirect_id: object, expected_url: str | None = None) -> AcceptedRedirect:
        """Give the profile the address to which it redirects; refused unless that is proposed, and `expected_url`.

        If another profile has that address, the two are merged: it replaces the old one in all lists and receives its
        stories, so that none counts as new again. The old profile keeps its checks, but is not in any list.
        """
        with transaction.atomic():
            found = find_proposal(redirect_id)
            lists = lock_lists_with(ListProfile.objects.filter(profile=found.profile))
            for changed in lists:
                require_settled(changed)
            if Profile.objects.filter(url=found.url).exists():  # a merge: wait for stories that are being recorded
                list(Lease.objects.select_for_update(no_key=True).order_by("pk"))
            urls = [found.profile.url, found.url]
            profiles = Profile.objects.select_for_update(no_key=True).filter(url__in=urls).order_by("pk")
            by_url = {profile.url: profile for profile in profiles}
            if find_proposal(redirect_id).url != found.url or expected_url not in {None, found.url}:
                message = Sentence("The address %(address)s redirects to another one now.", address=found.profile.url)
                raise Refused(Code.STALE_VERSION, message)
            accepted = _move(by_url[found.profile.url], found.url, by_url.get(found.url))
            Redirect.objects.filter(profile=found.profile).delete()
            for changed in lists:
                self._write(changed, Action.ACCEPT_REDIRECT, str(accepted))
            if not lists:
                self._log(None, Action.ACCEPT_REDIRECT, str(accepted))
        return accepted

    @refusable
    def find_redirect(self, redirect_id: object) -> Redirect:
        """The redirect with this ID that `accept_redirect` would accept. Changes nothing."""
        return find_proposal(redirect_id)

    def accept_redirects(self, proposals: Iterable[Redirect]) -> list[AcceptedRedirect | Refusal]:
        """Accept each in a separate transaction, if it has not changed since it was read."""
        return [self.accept_redirect(found.pk, expected_url=found.url) for found in paced(proposals)]


def find_proposal(redirect_id: object) -> Redirect:
    """Raises Refused for any value that is not the ID of a proposed redirect."""
    return find_row(Redirect.objects.proposed(), as_number(redirect_id), redirect_id, NO_REDIRECT)


def _move(old: Profile, new_url: str, target: Profile | None) -> AcceptedRedirect:
    if target is not None:
        _merge(old, target)
        return AcceptedRedirect(target.pk, old.url, new_url, merged=True)
    old_url, old.url = old.url, new_url
    try:
        with transaction.atomic():
            old.save(update_fields=["url"])
    except IntegrityError as error:
        message = Sentence("The address %(address)s has just become a profile. Try again.", address=new_url)
        raise Refused(Code.STALE_VERSION, message) from error
    return AcceptedRedirect(old.pk, old_url, new_url, merged=False)


def _merge(old: Profile, target: Profile) -> None:
    members = ListProfile.objects.filter(profile=old)
    doubled = members.filter(list__in=ListProfile.objects.filter(profile=target).values("list"))
    ProfileList.objects.filter(pk__in=doubled.values("list")).update(total_profiles=F("total_profiles") - 1)
    doubled.delete()
    members.update(profile=target)
    known = StoryResult.objects.filter(profile=target).values("story_id")
    StoryResult.objects.filter(profile=old).exclude(story_id__in=known).update(profile=target)
    # It was read through the redirect, so its next stories are new.
    target.first_read_at = min(filter(None, [old.first_read_at, target.first_read_at]), default=None)
    target.name = target.name or old.name
    target.save(update_fields=["name", "first_read_at"])

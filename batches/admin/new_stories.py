"""New stories as a reading list: by day or by profile, of a list, a batch or a host, with the reader's own mark."""

from collections.abc import Mapping, Sequence
from datetime import date
from itertools import groupby
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.http import urlencode
from django.utils.timezone import localdate
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches.lists.addresses import InvalidAddress
from batches.lists.exports import STORY_EXPORTERS
from batches.models import ListFeed, Profile, ReadMark, StoryResult, find_mark, mark_as_read
from batches.queue.refusals import Code, Refused
from batches.queue.values import find_batch, find_list
from batches.reports import queries, streams
from batches.reports.new_stories import Page, Selection, find_lists_with_stories, find_new_stories, read_page
from batches.web.downloads import stream_download

from .base import can_view, parse_number
from .reports import ReportPage

#: Lists that the page offers.
SHOWN_LISTS = 20
#: Days that both databases know in every time zone.
FIRST_DAY, LAST_DAY = date(1970, 1, 1), date(2999, 12, 31)
TODAY = "today"
#: The parameters that select stories; `by` groups them, and `before` says where the page begins.
FILTERS = ("day", "list", "batch", "host", "unread")

#: A day or a profile, and its stories.
Groups = Sequence[tuple[Any, Sequence[StoryResult]]]


class NewStoriesPage(ReportPage):
    name, title = "reading", gettext_lazy("New stories")

    @property
    def urls(self) -> list[URLPattern]:
        return [*super().urls, self.page_path("export/<slug:form>/", self.export, "export")]

    def page(self, request: HttpRequest) -> HttpResponse:
        return self.mark(request) if request.method == "POST" else super().page(request)

    def context(self, request: HttpRequest) -> Mapping[str, Any]:
        problem = ""
        try:
            selection, mark = read_selection(request)
            page = read_page(selection)
        except Refused as refused:
            selection, mark, page, problem = Selection(), None, Page((), None), str(refused)
        by_profile = request.GET.get("by") == "profile"
        read_up_to = mark.up_to if mark else 0
        return {
            "problem": problem,
            "selection": selection,
            "page": page,
            "groups": (group_by_profile if by_profile else group_by_day)(page.stories),
            "by_profile": by_profile,
            "mark": mark,
            "read_up_to": read_up_to,
            # Otherwise stories that the page does not show would be marked as read, too.
            "can_mark": can_mark(selection) and bool(page.stories) and page.stories[0].pk > read_up_to,
            "lists": find_lists_with_stories(selection.day or timezone.localdate(), SHOWN_LISTS),
            "asked": {name: request.GET.get(name, "") for name in FILTERS},
            "filters": query_of(request),
            "may_view_profiles": can_view(request, Profile),
            "list_link": selection.list and self.model_admin.page_link(request, selection.list),
            "batch_link": selection.batch and self.model_admin.page_link(request, selection.batch),
            "may_view_feeds": can_view(request, ListFeed),
            "may_add_feeds": request.user.has_perm("batches.add_listfeed"),
        }

    def mark(self, request: HttpRequest) -> HttpResponse:
        """Move the reader's mark to the newest story that the page showed."""
        up_to = parse_number(request.POST.get("up_to", "")) or 0
        try:
            selection, _mark = read_selection(request)
        except Refused as refused:
            self.model_admin.message_user(request, str(refused))
        else:
            if up_to > 0 and can_mark(selection):
                mark_as_read(request.user.pk, selection.list, up_to)
        return redirect(f"{request.path}?{query_of(request, 'by')}")

    def export(self, request: HttpRequest, form: str) -> HttpResponseBase:
        """Every story that the filters select."""
        if form not in STORY_EXPORTERS:
            raise Http404
        try:
            selection, _mark = read_selection(request)
        except Refused:  # the page says why
            return redirect(f"{self.model_admin.address_of('storyresult_reading')}?{query_of(request)}")
        lines = STORY_EXPORTERS[form](streams.stream_stories(find_new_stories(selection)))
        return stream_download(lines, "stories", form)


def read_selection(request: HttpRequest) -> tuple[Selection, ReadMark | None]:
    """The selection in the address, and how far the user has read its list, or all lists. Raises Refused."""
    asked = {name: request.GET.get(name, "").strip() for name in FILTERS}
    found = find_list(asked["list"]) if asked["list"] else None
    mark = find_mark(request.user.pk, found)
    selection = Selection(
        list=found,
        batch=find_batch(asked["batch"]) if asked["batch"] else None,
        host=require_host(asked["host"]) if asked["host"] else "",
        day=require_day(asked["day"]) if asked["day"] else None,
        after=mark.up_to if mark and asked["unread"] else 0,
        before=parse_number(request.GET.get("before", "")),
    )
    return selection, mark


def require_host(text: str) -> str:
    try:
        queries.match_host("url", text)
    except InvalidAddress as error:
        raise Refused(Code.BAD_VALUE, str(error)) from error
    return text


def require_day(text: str) -> date:
    if text == TODAY:
        return timezone.localdate()
    try:
        day = parse_date(text)
    except ValueError:  # such as the 31st of June
        day = None
    if day is None or not FIRST_DAY <= day <= LAST_DAY:
        raise Refused(Code.BAD_VALUE, _("This is not a valid date. Choose one such as 2026-11-29."))
    return day


def query_of(request: HttpRequest, *others: str) -> str:
    """The filters of the address, with these values replaced."""
    return urlencode({name: value for name in (*FILTERS, *others) if (value := request.GET.get(name))})


def can_mark(selection: Selection) -> bool:
    """Whether the page shows the newest stories of all profiles or of the list."""
    is_today = selection.day in (None, timezone.localdate())
    return is_today and selection.before is None and not selection.batch and not selection.host


def group_by_day(stories: Sequence[StoryResult]) -> Groups:
    """Group by the local day on which they were found; they are in this order already."""
    return [(day, list(found)) for day, found in groupby(stories, key=lambda story: localdate(story.found_at))]


def group_by_profile(stories: Sequence[StoryResult]) -> Groups:
    """Group by profile, the one with the newest story first."""
    groups: dict[Profile, list[StoryResult]] = {}
    for story in stories:
        groups.setdefault(story.profile, []).append(story)
    return list(groups.items())

"""The dashboard: the running batch and its expected end, the health of the workers, and the results of today.

A project puts it on the index page of its admin with `{% load batches_display %}{% batches_dashboard %}`. It shows
only what the user has permissions for.
"""

from typing import Any

from django.contrib.auth.context_processors import PermWrapper
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern
from django.utils import timezone
from django.views.decorators.gzip import gzip_page

from batches.models import Batch, Host, Profile, ProfileList
from batches.reports.days import find_latest_runs, find_lists_due, sum_up_day
from batches.reports.failures import Period
from batches.reports.forecast import forecast_queue
from batches.reports.hosts import count_failing_up_to

from .base import AdminView, can_view
from .display import register
from .queue_content import outlook_context

#: Rows of each table.
SHOWN = 8
#: Counting the hosts of this many failing profiles takes 0.4 s.
MOST_FAILING = 100_000


class Dashboard(AdminView):
    """Fetches everything every two seconds, except the hosts: counting their profiles takes a tenth of a second."""

    @property
    def urls(self) -> list[URLPattern]:
        return [self.page_path("dashboard/live/", gzip_page(self.live), "dashboard_live")]

    def live(self, request: HttpRequest) -> HttpResponse:
        return render(request, "admin/batches/dashboard/live.html", live_context(request))


@register.inclusion_tag("admin/batches/dashboard/page.html", takes_context=True)
def batches_dashboard(context: Any) -> dict[str, Any]:
    request = context["request"]
    may_see_hosts = can_view(request, Host) and can_view(request, Profile)
    return live_context(request) | (hosts_context() if may_see_hosts else {})


def live_context(request: HttpRequest) -> dict[str, Any]:
    """Reads only what the user may see."""
    context: dict[str, Any] = {"perms": PermWrapper(request.user)}
    if can_view(request, Batch):
        context |= queue_context()
    if can_view(request, ProfileList):
        context["lists"] = find_lists_due(SHOWN)
    return context


def queue_context() -> dict[str, Any]:
    outlook, today = forecast_queue(turns=0), sum_up_day()
    return {
        **outlook_context(outlook),
        "in_error": Batch.objects.filter(status=Batch.Status.ERROR).count(),
        "today": today.with_run(outlook.running) if outlook.running else today,
        "yesterday": sum_up_day(Period.YESTERDAY),
        "runs": find_latest_runs(SHOWN),
    }


def hosts_context() -> dict[str, Any]:
    """Leaves the hosts out if too many profiles fail, as after an outage, when the page must be fast."""
    counted = count_failing_up_to(MOST_FAILING, SHOWN)
    if counted is None:
        return {"hosts": {}, "most_failing": MOST_FAILING}
    hosts, total = counted
    return {"hosts": hosts, "failing_hosts": total, "counted_at": timezone.now()}

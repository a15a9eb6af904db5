"""Pages that answer a question about all batches: what fails today, which hosts fail most. They only read.

Each belongs to a model, and needs the permission to view the model's rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy

from batches.limits import MAX_HOST
from batches.models import Batch, BatchProfile, Host, Profile
from batches.reports.days import ComparedRun, compare_runs_of_today
from batches.reports.failures import Period, find_batches_with_failures, find_failing, summarise_failures
from batches.reports.hosts import SAMPLE, find_failing_hosts, find_pauses
from batches.text import StrOrPromise, clean_text

from .base import AdminView, can_view
from .filters import LastCheckFilter

#: Reasons, hosts, batches and profiles on the page of failures; the lists have all of them.
SHOWN = 20
SHOWN_HOSTS = 100
SHOWN_RUNS = 100


class ReportPage(AdminView):
    """A page of a model's admin, at `name`/."""

    name: str
    title: StrOrPromise

    @property
    def urls(self) -> list[URLPattern]:
        return [self.page_path(f"{self.name}/", self.page, self.name)]

    def page(self, request: HttpRequest) -> HttpResponse:
        context = {
            **self.model_admin.admin_site.each_context(request),
            "opts": self.model_admin.opts,
            "title": self.title,
            **self.context(request),
        }
        return render(request, f"admin/batches/report/{self.name}.html", context)

    def context(self, request: HttpRequest) -> Mapping[str, Any]:
        raise NotImplementedError


class FailuresPage(ReportPage):
    name, title = "failures", gettext_lazy("Failures")

    def context(self, request: HttpRequest) -> dict[str, Any]:
        asked = request.GET.get("period")
        period = Period(asked) if asked in Period.values else Period.TODAY
        return {
            "period": period,
            "periods": [(each, capfirst(each.label)) for each in Period],
            "check": LastCheckFilter.value_of(period),
            "failures": summarise_failures(period, SHOWN),
            "batches": find_batches_with_failures(period)[:SHOWN] if can_view(request, Batch) else [],
            "may_view_rows": can_view(request, BatchProfile),
            "may_view_hosts": can_view(request, Host),
            "profiles": find_failing(period).by_address()[:SHOWN],
            "shown": SHOWN,
            "can_check": request.user.has_perm("batches.add_batch"),
        }


class TodayPage(ReportPage):
    """Today's runs beside the previous runs. The page of each run compares them profile by profile."""

    name, title = "today", gettext_lazy("Today’s runs compared")

    def context(self, request: HttpRequest) -> dict[str, Any]:
        compared = compare_runs_of_today()
        return {
            "total": len(compared),
            "runs": [(each, [Figure.of(field, [each]) for field in COMPARED]) for each in compared[:SHOWN_RUNS]],
            "sums": [Figure.of(field, compared) for field in COMPARED],
            "new": sum(each.before is None for each in compared),
            "may_view_rows": can_view(request, BatchProfile),
        }


#: The fields that are compared, with their labels.
COMPARED = {
    "completed_profiles": gettext_lazy("Checked"),
    "failed_checks": gettext_lazy("Failed"),
    "stories_found": gettext_lazy("New stories"),
    "run_seconds": gettext_lazy("Run time"),
}


class Figure(NamedTuple):
    """A number of today's runs, and of the previous runs."""

    field: str
    label: Any
    now: float
    before: float | None

    @classmethod
    def of(cls, field: str, runs: Sequence[ComparedRun]) -> Self:
        """The sums over the runs that have a previous run: only they can be compared."""
        pairs = [each for each in runs if each.before]
        before = sum(getattr(each.before, field) for each in pairs) if pairs else None
        return cls(field, COMPARED[field], sum(getattr(each.run, field) for each in pairs or runs), before)

    @property
    def difference(self) -> float | None:
        return None if self.before is None else self.now - self.before


class HostsPage(ReportPage):
    """Replaces the list of hosts that have asked for a pause, and shows that list further down."""

    name, title = "hosts", gettext_lazy("Hosts")

    def context(self, request: HttpRequest) -> dict[str, Any]:
        search = clean_text(request.GET.get("q", ""), MAX_HOST).strip()
        found = find_failing_hosts(SHOWN_HOSTS, search)
        return {
            "search": search,
            "hosts": found.hosts,
            "total": found.total,
            "pauses": find_pauses(SHOWN_HOSTS),
            "sample": SAMPLE,
            "check": LastCheckFilter.failed,
            "may_view_profiles": can_view(request, Profile),
            "can_check": request.user.has_perm("batches.add_batch") and can_view(request, Profile),
        }

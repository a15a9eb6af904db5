from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import include, path
from django.utils.translation import gettext_lazy as _
from django.views.generic import RedirectView

admin.autodiscover()
admin.site.site_header = admin.site.site_title = "Batches"
admin.site.index_title = _("Overview")
admin.site.index_template = "admin/batches/overview.html"

handler400 = "batches.web.error_pages.bad_request"
handler500 = "batches.web.error_pages.server_error"


def redirect_to_icon(request: HttpRequest) -> HttpResponse:
    """Browsers request `/favicon.ico` for pages without an icon: the API's responses, files."""
    # Not at import: the address begins with the request's prefix, and Django would keep the first one.
    return redirect(static("batches/icon.svg"))


urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("favicon.ico", redirect_to_icon),
    path("admin/", admin.site.urls),
    path("api/", include("batches.api.urls")),
]

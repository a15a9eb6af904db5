from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

handler400 = "batches.web.error_pages.bad_request"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    # Browsers ask for it on pages that name no icon: the API's answers, files.
    path("favicon.ico", RedirectView.as_view(url=static("batches/icon.svg"))),
    path("admin/", admin.site.urls),
    path("api/", include("batches.api.urls")),
]

from django.contrib import admin
from django.urls import include, path
from rest_framework.decorators import api_view
from rest_framework.response import Response

import batches.admin

from .steps import read_step

staff = admin.AdminSite("staff")
batches.admin.register(staff)


def hide_errors(error, context):
    """The host's own shape of errors."""
    return Response("No.", 400)


@api_view()
def greet(request):
    return Response("Hello")


handler400 = "batches.web.error_pages.bad_request"
handler500 = "batches.web.error_pages.server_error"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("staff/", staff.urls),
    path("api/", include(([path("batches/", greet, name="batch-list")], "api"))),
]

exec(read_step("urls.py"))

"""The admin, for operators. It reads through `reports`, and changes state only through `BatchManager`."""

from django.contrib import admin

from . import batch, records, tokens, webhooks

__all__ = ["batch", "records", "tokens", "webhooks"]

admin.site.site_header = admin.site.site_title = "Batches"
admin.site.index_title = "Overview"
admin.site.index_template = "admin/batches/overview.html"

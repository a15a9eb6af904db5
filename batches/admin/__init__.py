"""The operators' door: Django's admin. It reads through `queries` and changes state through `BatchManager` only."""

from django.contrib import admin

from . import batch, models, tokens, webhooks

__all__ = ["batch", "models", "tokens", "webhooks"]

admin.site.site_header = admin.site.site_title = "Batches"
admin.site.index_title = "Overview"
admin.site.index_template = "admin/batches/queue/index.html"

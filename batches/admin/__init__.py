"""The admin, for operators. It reads through `reports`, and changes state only through `BatchManager`."""

from django.apps import apps
from django.contrib import admin

from . import batch, feeds, lists, records, redirects, subscriptions, webhooks

__all__ = ["batch", "feeds", "lists", "records", "redirects", "register", "subscriptions", "webhooks"]

if apps.is_installed("rest_framework.authtoken"):  # otherwise a system check asks for it
    from . import tokens  # noqa: F401


def register(site: admin.AdminSite) -> None:
    """Register the pages of this app with another site than the default one."""
    for model in apps.get_app_config("batches").get_models():
        if admin.site.is_registered(model):
            site.register(model, type(admin.site.get_model_admin(model)))

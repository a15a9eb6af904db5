"""The admin, for operators. It reads through `reports`, and changes state only through `BatchManager`."""

from django.apps import apps
from django.contrib import admin

from . import batch, feeds, lists, profiles, records, redirects, subscriptions, tokens, webhooks


def register(site: admin.AdminSite) -> None:
    """Register the pages of this app with another site than the default one."""
    for model in apps.get_app_config("batches").get_models():
        if admin.site.is_registered(model):
            site.register(model, type(admin.site.get_model_admin(model)))

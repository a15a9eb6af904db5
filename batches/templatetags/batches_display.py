"""`{% load batches_display %}`: the filters of the admin for the templates."""

from django.apps import apps
from django.template import Library

if apps.is_installed("django.contrib.admin"):
    from batches.admin.display import register
else:  # Django imports this module in any project that renders a template
    register = Library()

__all__ = ["register"]

"""The settings of a project that has neither the admin nor pages, only the API."""

from .plain import *  # noqa: F403
from .plain import INSTALLED_APPS

INSTALLED_APPS.remove("django.contrib.admin")
ROOT_URLCONF = "batches.api.urls"

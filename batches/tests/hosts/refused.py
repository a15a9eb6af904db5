"""The settings that the app refuses, all at once."""

from .plain import INSTALLED_APPS
from .unusual import *  # noqa: F403

INSTALLED_APPS = [app for app in INSTALLED_APPS if app in {"batches"} or "django.contrib." in app]
INSTALLED_APPS += ["batches.tests.hosts.people"]
INSTALLED_APPS.remove("django.contrib.humanize")
AUTH_USER_MODEL = "people.Robot"
USE_TZ = False
DATABASE_ROUTERS = ["batches.tests.hosts.routers.ReplicaForReading"]

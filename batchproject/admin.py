"""Django's admin, without its imports in commands: they take longer than most commands."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin import apps, checks
from django.core.checks import CheckMessage, Tags, register


class AdminConfig(apps.SimpleAdminConfig):
    """Discovers the admin modules of the apps when the URLs are loaded or checked."""

    def ready(self) -> None:
        register(checks.check_dependencies, Tags.admin)
        register(check_pages, Tags.admin)


def check_pages(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    admin.autodiscover()
    return checks.check_admin_app(app_configs, **kwargs)

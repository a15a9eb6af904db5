"""System checks: nonsense in the `BATCHES` setting is told at start, with what to type instead."""

from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from .conf import get_config


@register()
def check_config(**kwargs: Any) -> list[CheckMessage]:
    try:
        problems = get_config().problems()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="batches.E001")]
    return [Error(problem, id="batches.E002") for problem in problems]

"""Checkers fetch one profile and return the result. They do not use the database."""

from django.utils.module_loading import import_string

from batches.conf import Config

from .base import Checker


def load_checker(name: str, config: Config) -> Checker:
    """Make the checker of this name in the settings. Raises LookupError for an unknown name."""
    path = config.all_checkers.get(name)
    if path is None:
        raise LookupError(f"Unknown checker {name!r}; the settings have {', '.join(config.all_checkers)}.")
    checker: Checker = import_string(path)(config)
    return checker

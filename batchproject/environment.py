"""Reads settings from the environment. An invalid value raises ImproperlyConfigured with the valid form."""

import os
import re
from collections.abc import Collection
from zoneinfo import ZoneInfo

from django.core.exceptions import ImproperlyConfigured

ON, OFF = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def read_text(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def read_list(name: str, default: str = "") -> list[str]:
    return [item.strip() for item in os.environ.get(name, default).split(",") if item.strip()]


def read_switch(name: str) -> bool:
    return read_choice(name, "off", ON + OFF, "switch") in ON


def read_number(name: str, default: int) -> int:
    text = read_text(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        raise ImproperlyConfigured(f"{name}={text!r} is not a valid number. Use a whole number such as 0 or 3600.")
    return int(text)


def read_choice(name: str, default: str, choices: Collection[str], noun: str) -> str:
    """One of the choices, in upper or lower case."""
    text = read_text(name, default)
    for choice in choices:
        if choice.lower() == text.lower():
            return choice
    raise ImproperlyConfigured(f"{name}={text!r} is not a valid {noun}. Use one of {', '.join(choices)}.")


def read_time_zone(name: str, default: str) -> str:
    zone = read_text(name, default)
    try:
        return ZoneInfo(zone).key
    except (KeyError, OSError, ValueError) as error:
        message = f"{name}={zone!r} is not a known time zone. Use UTC, or a name like Europe/Berlin."
        raise ImproperlyConfigured(message) from error

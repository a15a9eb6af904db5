"""The secret key: one made for this installation, so that none ships with the code, or a strong one given to it."""

import os
from pathlib import Path

from django.core.checks.security.base import SECRET_KEY_INSECURE_PREFIX, SECRET_KEY_MIN_LENGTH
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key

#: Fewer are no accident in 50 random characters, not even in hexadecimal ones.
MIN_DIFFERENT = 10
#: What people write instead of a key. Each is long enough not to turn up in a random one.
PLACEHOLDERS = (
    SECRET_KEY_INSECURE_PREFIX,
    "changeme",
    "change-me",
    "change_me",
    "secret",
    "insecure",
    "password",
    "example",
)

MAKE_ONE = "python3 -c 'import secrets; print(secrets.token_urlsafe(50))'"


def secret_key(given: str, path: Path, *, may_be_weak: bool) -> str:
    """The key that is given, or else the installation's own in `path`.

    Who guesses it can sign sessions: a weak one is refused with ImproperlyConfigured, unless it `may_be_weak`.
    """
    key = given or installation_secret_key(path)
    problem = weakness(key)
    if problem and not may_be_weak:
        remedy = f"Set it to what this prints: {MAKE_ONE}"
        if given:
            raise ImproperlyConfigured(f"SECRET_KEY {problem}. {remedy} — or unset it: one is made and kept in {path}.")
        raise ImproperlyConfigured(f"The secret key in {path} {problem}. Delete that file, and a new one is made.")
    return key


def weakness(key: str) -> str:
    """Why somebody could guess the key, as the end of a sentence; empty where nobody can."""
    if placeholder := next((word for word in PLACEHOLDERS if word in key.lower()), None):
        return f"is no random text: it contains “{placeholder}”"
    if len(key) < SECRET_KEY_MIN_LENGTH:
        return f"is too short: it has {len(key)} of at least {SECRET_KEY_MIN_LENGTH} characters"
    if key in (key + key)[1:-1]:
        return "is no random text: it is a shorter one again and again"
    if len(set(key)) < MIN_DIFFERENT:
        return f"is no random text: it has only {len(set(key))} different characters"
    return ""


def installation_secret_key(path: Path) -> str:
    """The key kept in `path`; made on first use, readable by its owner only.

    Several processes may start at once: the first one to link its file in wins, and all of them read that one.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f"{path.name}.{os.getpid()}")
            draft.touch(mode=0o600)
            draft.write_text(get_random_secret_key())
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(
            f"No secret key can be kept in {path} ({error.strerror}). Set the environment variable SECRET_KEY."
        ) from error

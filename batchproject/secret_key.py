"""The secret key: either a strong one from the environment, or one generated for this installation."""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from django.core.checks.security import base as django_check
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key

from .private_files import create_private_directory

GENERATE_KEY = "python3 -c 'import secrets; print(secrets.token_urlsafe(50))'"


def load_secret_key(given: str, path: Path, *, allow_weak: bool) -> str:
    """Return the given key, or the installation's own key in `path`.

    Anybody who guesses the key can sign sessions, so a weak one raises ImproperlyConfigured unless `allow_weak`.
    """
    key = given or read_or_generate_key(path)
    if allow_weak or not is_weak(key):
        return key
    if given:
        raise ImproperlyConfigured(
            f"SECRET_KEY is too easy to guess. Set it to the output of: {GENERATE_KEY} — or unset it: "
            f"a key is then generated and stored in {path}."
        )
    raise ImproperlyConfigured(f"The secret key in {path} is too easy to guess. Delete the file to generate a new key.")


def is_weak(key: str) -> bool:
    """Apply Django's rules (security.W009) and reject a text that is only repeated until it is long enough."""
    return (
        len(key) < django_check.SECRET_KEY_MIN_LENGTH
        or len(set(key)) < django_check.SECRET_KEY_MIN_UNIQUE_CHARACTERS
        or key.startswith(django_check.SECRET_KEY_INSECURE_PREFIX)
        or key in (key + key)[1:-1]
    )


def read_or_generate_key(path: Path) -> str:
    """Read the key in `path`. The first process generates it, readable by its owner only.

    Several processes may start together: the first to link its file wins, and all of them read that file.
    """
    try:
        if not path.exists():
            create_private_directory(path.parent)
            with NamedTemporaryFile("w", dir=path.parent, prefix=path.name) as draft:  # its mode is 0600
                draft.write(get_random_secret_key())
                draft.flush()
                with suppress(FileExistsError):
                    os.link(draft.name, path)
        return path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(
            f"Cannot store a secret key in {path} ({error.strerror}). Set the environment variable SECRET_KEY."
        ) from error

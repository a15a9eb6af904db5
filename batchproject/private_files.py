"""Files that only the account of the application can read."""

import os
from contextlib import suppress
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def create_private_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def create_private_file(path: Path) -> Path:
    """Create an empty file, unless it exists. SQLite gives the files beside its database the same mode.

    Raises ImproperlyConfigured if that is not possible.
    """
    try:
        create_private_directory(path.parent)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise ImproperlyConfigured(
            f"Cannot create the database {path} ({error.strerror}). Set the environment variable DATABASE_URL."
        ) from error
    return path

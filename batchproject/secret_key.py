"""A secret key made for this installation, so that none ever ships with the code."""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key


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
        return path.read_text()
    except OSError as error:
        raise ImproperlyConfigured(
            f"No secret key can be kept in {path} ({error.strerror}). Set the environment variable SECRET_KEY."
        ) from error

"""Detects how this project was installed: as a clone with `manage.py`, or as a package with the program `batches`."""

import os
from pathlib import Path

from platformdirs import user_data_path

BASE_DIR = Path(__file__).resolve().parent.parent
IS_CLONE = (BASE_DIR / "manage.py").exists()

IN_CLONE = f"{'.venv/bin/' if (BASE_DIR / '.venv').exists() else ''}python manage.py"
#: The prefix of our commands in messages. People can copy it, whether or not they have activated `.venv`.
PROGRAM = os.environ.get("PROGRAM") or (IN_CLONE if IS_CLONE else "batches")


def find_data_directory() -> Path:
    """The directory of the database and the secret key, unless DATABASE_URL and SECRET_KEY replace them."""
    if given := os.environ.get("DATA_DIR", ""):
        return Path(given).absolute()
    return BASE_DIR / "var" if IS_CLONE else user_data_path("batches", appauthor=False)

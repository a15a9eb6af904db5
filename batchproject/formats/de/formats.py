"""German pages show dates and times like the pages of the app, and numbers as Django formats them."""

from batchproject.formats.en.formats import *  # noqa: F403

#: A field shows its value in the first format.
DATE_INPUT_FORMATS = ["%Y-%m-%d", "%d.%m.%Y", "%d.%m.%y"]
DATETIME_INPUT_FORMATS = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M"]

"""Parses the dates of feeds to the exact moment in UTC, or to None.

It never completes a date from today or guesses a zone.
"""

import re
import unicodedata
from datetime import UTC, datetime, timedelta

# Dates outside these years are placeholders for zero or infinity.
FIRST_YEAR, LAST_YEAR = 1900, 2199
# No date is longer, not even JavaScript's with the zone's name in brackets.
MAX_DATE = 100

#: The first letters of the months, without accents, in English, German, French, Spanish, Italian, Portuguese and Dutch.
MONTHS = {
    name: number
    for number, names in {
        1: "jan ene gen", 2: "feb fev", 3: "mar mrz mrt", 4: "apr abr avr", 5: "mai may mag mei", 6: "jun juin giu",
        7: "jul juil lug", 8: "aug ago aou", 9: "sep set", 10: "oct okt ott out", 11: "nov", 12: "dec dez dic",
    }.items()
    for name in names.split()
}  # fmt: skip
#: Offsets in hours. Ambiguous names, such as IST, are left out.
ZONES = {
    "z": 0, "ut": 0, "utc": 0, "gmt": 0, "wet": 0,
    "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7,
    "akst": -9, "akdt": -8, "hst": -10, "brt": -3, "art": -3,
    "bst": 1, "west": 1, "cet": 1, "met": 1, "mez": 1, "cest": 2, "mest": 2, "mesz": 2, "eet": 2, "eest": 3, "sast": 2,
    "msk": 3, "wib": 7, "hkt": 8, "sgt": 8, "awst": 8, "jst": 9, "kst": 9,
    "acst": 9.5, "acdt": 10.5, "aest": 10, "aedt": 11, "nzst": 12, "nzdt": 13,
}  # fmt: skip
#: Zones from which an offset can count: "GMT+7".
ZERO_ZONES = {"", "z", "ut", "utc", "gmt"}

TIME = r"""(?P<hour>\d{1,2}) :(?P<minute>\d\d) (?: :(?P<second>\d\d) (?:[.,]\d+)? )? (?:\s?(?P<half>[ap])\.?m\.?)?"""
ZONE = r"""\s? (?:[+-]00:?00(?=z))? (?P<name>[a-z]{0,5}) (?:\s?(?P<offset>[+-]\d{1,2}(?::?\d\d)?))?
           (?(offset)(?:\s[a-z]{2,5})?) (?:\s?\(.*\))?"""
WEEKDAY = r"(?:[^\W\d_]{2,13}(?:\.?,?\s|,))?"
DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th|\.)?"
MONTH = r"(?P<month>[^\W\d_]{3,10})\.?"
YEAR = r"(?P<year>\d{4}|\d\d)"
GAP = r"(?:,?\s(?:-\s|at\s)?|\s?T)"
REST = rf"(?:{GAP}{TIME}(?:{ZONE})?)?"

FORMS = [
    re.compile(form, re.VERBOSE | re.IGNORECASE)
    for form in (
        rf"{WEEKDAY} {DAY}[\s-]{MONTH},?[\s-]{YEAR} {REST}",  # Tue, 02 Jul 2024 18:30:00 +0200
        rf"{WEEKDAY} {MONTH}\s{DAY}(?:,\s?|\s){YEAR} {REST}",  # Tuesday, July 2, 2024 6:30 PM
        rf"{WEEKDAY} {MONTH}\s{DAY}\s{TIME}(?:{ZONE})?\s(?P<year>\d{{4}})",  # Tue Jul 2 18:30:00 2024
        rf"{WEEKDAY} (?P<year>\d{{4}})([-/.])(?P<month>\d{{1,2}})\2(?P<day>\d{{1,2}}) {REST}",  # 2024/7/2 18:30
        rf"(?P<year>\d{{4}})年(?P<month>\d{{1,2}})月(?P<day>\d{{1,2}})日 (?:\s?{TIME}(?:{ZONE})?)?",
        rf"(?P<day>\d{{1,2}})\.(?P<month>\d{{1,2}})\.(?P<year>\d{{4}}) {REST}",  # 02.07.2024 18:30
        rf"{WEEKDAY} (?P<first>\d{{1,2}})/(?P<other>\d{{1,2}})/(?P<year>\d{{4}}) {REST}",  # 7/2/2024 6:30 PM
        r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)"
        r"(?:T?(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)(?P<name>Z?)(?P<offset>[+-]\d\d:?\d\d)?)?",
    )
]
EPOCH = re.compile(r"\d{10}(\d{3})?")


def parse_date(text: str) -> datetime | None:
    """Return the moment in UTC, which is also the default zone. None for anything but a full date."""
    text = text.strip()
    if not 8 <= len(text) <= MAX_DATE:
        return None
    try:
        date = _read_iso(text) or _read_rfc822(text) or _read_any(" ".join(text.split()))
    except (ValueError, OverflowError):
        return None
    return date if date is not None and FIRST_YEAR <= date.year <= LAST_YEAR else None


# The usual forms of RSS, and of Atom and JSON, ten times faster than by FORMS.

RFC822 = re.compile(
    r"(?:[A-Z][a-z]{2}, )?(\d\d?) ([A-Z][a-z]{2}) (\d{4}) ((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)"
    r" (?:GMT|UTC|([+-](?:[01]\d|2[0-3])[0-5]\d))",
    re.ASCII,
)
MONTH_NUMBERS = {name.capitalize(): f"{number:02}" for name, number in MONTHS.items()}


def _read_rfc822(text: str) -> datetime | None:
    match = RFC822.fullmatch(text)
    if match is None:
        return None
    day, name, year, time, offset = match.groups()
    month = MONTH_NUMBERS.get(name)
    if month is None:
        return None
    date = datetime.fromisoformat(f"{year}-{month}-{day.zfill(2)}T{time}{offset or '+0000'}")
    return date.astimezone(UTC) if offset else date


def _read_iso(text: str) -> datetime | None:
    if len(text) < 10 or text[4] != "-" or text[7] != "-":
        return None
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return None
    return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)


def _read_any(text: str) -> datetime | None:
    if EPOCH.fullmatch(text):
        return datetime.fromtimestamp(int(text[:10]), UTC)
    for form in FORMS:
        if match := form.fullmatch(text):
            return _make_date({name: value for name, value in match.groupdict().items() if value})
    return None


def _make_date(found: dict[str, str]) -> datetime | None:
    day, month = _find_day_and_month(found)
    offset = _find_offset(found.get("name", "").lower(), found.get("offset", ""))
    hour = _find_hour(int(found.get("hour", 0)), found.get("half", "").lower())
    minute, second = int(found.get("minute", 0)), int(found.get("second", 0))
    if None in (day, month, offset, hour) or minute > 59 or second > 60 or (hour == 24 and minute + second):
        return None
    year = int(found["year"])
    year += 0 if year > 99 else 2000 if year < 50 else 1900  # RFC 5322, 4.3
    # Added, because 24:00 is the next day, and a leap second the next minute.
    time = timedelta(hours=hour or 0, minutes=minute, seconds=second)
    return datetime(year, month or 0, day or 0, tzinfo=UTC) + time - (offset or timedelta())


def _find_day_and_month(found: dict[str, str]) -> tuple[int | None, int | None]:
    if "first" in found:
        first, other = int(found["first"]), int(found["other"])
        if first > 12 or first == other:
            return first, other
        # Only Americans write the month first, and only they write AM and PM with slashes.
        return (other, first) if other > 12 or "half" in found else (None, None)
    return int(found["day"]), _find_month(found["month"])


def _find_month(name: str) -> int | None:
    if name.isdigit():
        return int(name)
    letters = unicodedata.normalize("NFKD", name.lower()).encode("ascii", "ignore").decode()
    return MONTHS.get(letters[:4]) or MONTHS.get(letters[:3])


def _find_hour(hour: int, half: str) -> int | None:
    if hour > 24 or (hour > 12 and half == "a") or (hour == 0 and half == "p"):
        return None
    return hour % 12 + (12 if half == "p" else 0) if half and hour <= 12 else hour  # also "18:30 PM"


def _find_offset(name: str, offset: str) -> timedelta | None:
    """None for a zone that is not known."""
    if offset:
        hours, minutes = int(offset[1:3].rstrip(":")), int(offset[3:].lstrip(":") or 0)
        if name not in ZERO_ZONES or hours > 23 or minutes > 59:
            return None
        return timedelta(hours=hours, minutes=minutes) * (-1 if offset[0] == "-" else 1)
    hours_of_zone = ZONES.get(name or "z")
    return None if hours_of_zone is None else timedelta(hours=hours_of_zone)

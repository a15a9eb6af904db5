"""A date is read as the moment that it names, or not at all."""

from datetime import UTC, datetime

import pytest

from batches.checking.checkers.dates import ZONES, parse_date

#: By the moment in UTC.
SPELLINGS = {
    datetime(2024, 7, 2, 18, 30, tzinfo=UTC): [
        # RFC 822 and its common variants
        "Tue, 02 Jul 2024 18:30:00 GMT", "Tue, 02 Jul 2024 18:30:00 +0000", "Tue, 2 Jul 2024 18:30 UT",
        "2 Jul 2024 18:30",
        "Tue,02 Jul 2024 18:30:00 Z", "Tuesday, 2 July 2024 18:30:00 UTC", "Tue, 02 Jul 24 18:30:00 GMT",
        "Tue, 02-Jul-2024 18:30:00 GMT", "tue, 02 JUL 2024 18:30:00 gmt", " Tue,  02 Jul\n 2024 18:30:00 GMT ",
        "Tue, 02 Jul 2024 11:30:00 -0700", "Tue, 02 Jul 2024 11:30:00 -0700 (PDT)",
        "Tue, 02 Jul 2024 11:30:00 -0700 PDT",
        "Tue, 02 Jul 2024 11:30:00 PDT", "Tue, 02 Jul 2024 14:30:00 EDT", "Tue, 02 Jul 2024 20:30:00 CEST",
        "Tue, 02 Jul 2024 21:30:00 MSK", "Wed, 03 Jul 2024 03:30:00 JST", "Wed, 03 Jul 2024 04:00:00 ACST",
        "Wed, 03 Jul 2024 01:30:00 GMT+7", "Tue, 02 Jul 2024 20:30:00 UTC+2", "Tue, 02 Jul 2024 18:30:00 GMT+0000",
        "Tue Jul 02 2024 20:30:00 GMT+0200 (Central European Summer Time)", "Tue, 02 Jul 2024 20:30:00 +02:00",
        "Tue, 02 Jul 2024 18:29:60 GMT", "Tue, 02 Jul 2024 18:30:00.123 GMT",
        # Month first, AM and PM
        "Tue, Jul 2 2024 18:30:00", "July 2, 2024 6:30 PM", "Tuesday, July 2nd, 2024 at 6:30 p.m.",
        "Jul 2, 2024, 6:30:00 PM",
        "Tuesday,July 2,2024 18:30 pm",
        "Tuesday, July 2, 2024 - 18:30", "Tue, 02 Jul 2024 06:30:00 PM GMT", "Tue, 02 Jul 2024 18:30:00 PM",
        "7/2/2024 6:30:00 PM", "Tue Jul  2 18:30:00 2024", "Tue Jul 2 18:30:00 UTC 2024", "Tue Jul 2 11:30:00 PDT 2024",
        # ISO 8601 and numbers
        "2024-07-02T18:30:00Z", "2024-07-02T18:30:00", "2024-07-02T18:30Z", "2024-07-02 18:30",
        "2024-07-02 20:30:00 +0200",
        "2024-07-02 18:30:00 UTC", "2024-07-02T20:30:00.000+0200", "2024-07-03T00:00:00+05:30",
        "2024-07-02T18:30:00+00:00Z", "Tue, 2024-07-02 18:30",
        "2024-07-02T11:30:00-7", "2024/7/2 18:30:00", "2024.07.02 18:30", "20240702T183000Z", "20240702183000",
        "02.07.2024 18:30", "2024年07月02日 18:30", "2024年7月2日18:30:00", "1719945000", "1719945000000",
        # Other languages
        "mar, 02 lug 2024 20:30:00 +0200", "mar., 2 juil. 2024 20:30:00 +0200", "mardi 2 juillet 2024 20:30 +0200",
        "Di, 02 Jul 2024 20:30:00 MESZ", "Dienstag, 2. Juli 2024, 18:30", "ter, 02 jul 2024 15:30:00 -0300",
        "di, 02 juli 2024 20:30:00 +0200",
    ],
    datetime(2024, 3, 2, tzinfo=UTC): [
        "2024-03-02", "2 March 2024", "2 March, 2024", "March 2, 2024",
        "Sat, 02 Mar 2024", "2. März 2024", "2 mrt 2024",
        "sáb, 02 mar 2024 00:00:00 GMT", "2 mars 2024", "02.03.2024", "20240302", "2024/03/02",
        "Fri, 01 Mar 2024 24:00:00 GMT",
        "2024-03-01T24:00:00Z", "Sat, 02 Mar 2024 12:00 AM",
    ],
    datetime(2024, 12, 25, 12, tzinfo=UTC): [
        "25/12/2024 12:00", "12/25/2024 12:00", "Wed, 12/25/2024 - 12:00", "25 dic 2024 12:00", "25 déc. 2024 12:00 PM",
    ],
    datetime(2024, 2, 12, 7, 30, tzinfo=UTC): ["lun., 12 févr. 2024 08:30:00 +0100", "Mo, 12 Feb 2024 08:30 MEZ"],
    datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC): ["Fri, 31 Dec 99 23:59:59 GMT", "1999-12-31T23:59:59+00:00"],
    datetime(1970, 1, 1, tzinfo=UTC): ["Thu, 01 Jan 1970 00:00:00 GMT"],
    datetime(2041, 11, 16, 19, 11, tzinfo=UTC): ["Sat, 16 Nov 2041 19:11:00 GMT"],
    datetime(2018, 9, 18, 12, 53, 56, tzinfo=UTC): ["Tue, 18 Sept 2018 15:53:56 +0300"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("spelling", "moment"), [(spelling, moment) for moment, spellings in SPELLINGS.items() for spelling in spellings]
)
def test_a_date_is_read_in_any_spelling(spelling, moment):
    assert parse_date(spelling) == moment
    assert parse_date(spelling).tzinfo is UTC


NOT_DATES = [
    # Fragments, which something else would have to complete
    "", "12", "2024", "2024-07", "July 2024", "2 July", "Tue, 02 Jul", "18:30", "18:30:00 GMT", "T18:30:00Z", "Tuesday",
    "2024-W27", "2024-W27-2", "2024-184",
    # Ambiguous
    "07/02/2024", "2/7/2024 18:30", "Tue, 02 Jul 2024 18:30:00 IST", "Tue, 02 Jul 2024 18:30:00 AST",
    # A zone that nobody knows, or one that counts the other way round
    "2 January 2006, 15:04 XYZT", "Tue, 02 Jul 2024 18:30:00 EST+5", "Tue, 02 Jul 2024 18:30:00 Europe/Berlin",
    "2024-07-02T18:30:00+02:00Z",
    "Tue, 02 Jul 2024 18:30:00 +2500", "Tue, 02 Jul 2024 18:30:00 GMT +0175",
    # No such moment
    "0000-00-00 00:00:00", "2024-02-30", "2023-02-29T10:00:00Z", "Mon, 99 Foo 2006 15:04:05 GMT", "31 Jun 2024",
    "Tue, 02 Jul 2024 25:30:00 GMT", "Tue, 02 Jul 2024 24:30:00 GMT", "Tue, 02 Jul 2024 18:60:00 GMT",
    "Tue, 02 Jul 2024 18:30:00 AM", "Tue, 02 Jul 2024 0:30:00 PM", "2024-13-02T10:00:00Z",
    # Placeholders
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00",
    "10000-01-01T00:00:00Z", "+292278994-08-17T07:12:55Z", "Invalid Date", "soon", "null", "{{ date }}",
    # Long
    "1" * 5000, "Tue, 02 Jul 2024 18:30:00 GMT" + "0" * 100, " ".join(["Tue,"] * 20), "1:" * 50,
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_DATES)
def test_a_text_that_is_not_a_full_date_gives_no_date(text):
    assert parse_date(text) is None


def test_no_zone_is_further_than_a_day_from_utc():
    assert all(-12 <= hours <= 14 for hours in ZONES.values())

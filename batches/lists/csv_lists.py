"""CSV as it occurs in practice: with or without a header, with the separator of any spreadsheet, with broken lines."""

import csv
import io
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, takewhile
from typing import NamedTuple

from batches.limits import MAX_QUOTE
from batches.text import Sentence

from .addresses import InvalidAddress, normalise_address
from .exports import unescape
from .fields import ADDRESS_FIELDS, NAME_FIELDS, rank, rank_fields, simplify
from .imports import Collector, InvalidList, clean_line
from .source import MAX_LINE, ListSource, find_first_line

#: Of equally good ones, the first counts: addresses often contain commas, and never tabs.
DELIMITERS = "\t|;,"
#: Excel obeys this line, and other programs write it for Excel. The separator cannot be a character of addresses.
SEPARATOR_LINE = re.compile(r"""\s*["']?sep=([,;|^!*\t])["']?\s*""", re.IGNORECASE)
#: In some lists the last ones are names, in others addresses.
NAME_COLUMNS = (*NAME_FIELDS, "blog", "site", "website", "feed", "channel", "profile", "page")
#: Rows and cells that decide the layout.
SAMPLED_ROWS, SAMPLED_CELLS = 50, 100
#: A row over several lines that is incomplete is read again from its second line. After this many, each line is a row.
MAX_REREADS = 100
#: Maximum lines of one row.
MAX_ROW = 10_000

Line = tuple[int, str]
Row = tuple[int, list[str]]


class Layout(NamedTuple):
    """The columns with the address and the name of an entry; of several, the first that is not empty counts."""

    delimiter: str
    addresses: Sequence[int]
    names: Sequence[int]
    #: The line of the header. It and the lines above it are not entries.
    header: int
    #: Whether the header names a column of addresses, and how many rows of the sample have one.
    is_named: bool
    matches: int


def read_csv(source: ListSource, collector: Collector) -> None:
    """Read a column of addresses and optionally a column of names. Other columns and blank rows are ignored.

    The header names the columns. Otherwise the column that contains addresses is used.
    """
    layout = find_layout(source.head)
    if not layout.addresses and (first := clean_line(find_first_line(source.head), MAX_QUOTE)):
        message = Sentence(
            'No column contains addresses; name one "url" in the first line, instead of: %(first)s.', first=first
        )
        raise InvalidList(message)
    for number, row in read_rows(source.read_lines(), layout.delimiter, collector.reject):
        if number > layout.header:
            collector.add(number, _first_of(row, layout.addresses or [0]), unescape(_first_of(row, layout.names)))


def is_table(head: str) -> bool:
    """Whether a text is CSV: it starts with a header for addresses, or with an address and something else.

    A header in another language has several cells, like each row after it.
    """
    first = find_first_line(head)
    if SEPARATOR_LINE.fullmatch(first):
        return True
    layout = find_layout(head)
    cells = next(csv.reader([first], delimiter=layout.delimiter, skipinitialspace=True), [])
    if any(simplify(cell) in ADDRESS_FIELDS for cell in cells):
        return len(cells) > 1 or simplify(first) == "url"
    if first.startswith("#") or _is_address(first):
        return False
    rows = read_rows(enumerate(io.StringIO(head, newline=None)), layout.delimiter, lambda *_: None)
    has_columns = layout.matches > 0 and all(len(row) > 1 for _, row in islice(rows, SAMPLED_ROWS))
    return has_columns or sum(map(_is_address, cells)) == 1


def find_layout(head: str) -> Layout:
    """The layout that finds an address in most rows, otherwise the one with a column of addresses in its header."""
    lines = list(io.StringIO(head, newline=None))
    match = SEPARATOR_LINE.fullmatch(lines[0]) if lines else None
    stated = match[1] if match else ""
    if len(lines) > SAMPLED_ROWS:
        del lines[-1]  # it may be truncated
    numbered = list(enumerate(lines, 1))[1 if stated else 0 :]
    layouts = [_lay_out(numbered, delimiter) for delimiter in dict.fromkeys(stated + DELIMITERS)]

    def fit(layout: Layout) -> tuple[int, bool, int]:
        is_default = layout.delimiter == ","
        return layout.matches, layout.is_named, sum(layout.delimiter in line for line in lines) or is_default

    best = max(layouts, key=fit)
    return best._replace(header=max(best.header, len(stated)))  # the line that declares the separator is the first


def read_rows(lines: Iterable[Line], delimiter: str, reject: Callable[[int, str, str], None]) -> Iterator[Row]:
    """Yield each row that is not blank, with its first line. Reject only the lines that cannot be read."""
    row_lines = _RowLines(lines)
    reader = csv.reader(row_lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        row_lines.begin_row()
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            has_more_lines = len(row_lines.row) > 1
            reject(*row_lines.take_first_line(), _describe_error(str(error), has_more_lines))
        else:
            if row_lines.length >= MAX_LINE:
                reject(*row_lines.take_first_line(), Sentence("It is longer than %(most)s characters.", most=MAX_LINE))
            elif any(cell.strip() for cell in row):
                yield row_lines.row[0][0], row


class _RowLines:
    """Lines for a `csv.reader`. The lines of the current row, apart from its first, can be read again."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._again: deque[Line] = deque()
        self._rereads = 0
        self.row: list[Line] = []
        self.length = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        # Without these limits, a broken quote in each line would read the rest of the list again and again.
        if self.row and (self.length > MAX_LINE or len(self.row) > MAX_ROW or self._rereads > MAX_REREADS):
            raise StopIteration
        line = self._again.popleft() if self._again else next(self._lines)
        self.row.append(line)
        self.length += len(line[1])
        return line[1]

    def begin_row(self) -> None:
        self.row = []
        self.length = 0

    def take_first_line(self) -> Line:
        """Return the first line of this row, and let the other lines be read again."""
        first, *others = self.row
        self._again.extendleft(reversed(others))
        self._rereads += bool(others)
        return first


def _lay_out(lines: Sequence[Line], delimiter: str) -> Layout:
    sample = islice(read_rows(lines, delimiter, lambda *_: None), SAMPLED_ROWS)
    rows = [(number, row[:SAMPLED_CELLS]) for number, row in sample]
    found = Counter(column for _, row in rows for column, cell in enumerate(row) if _is_address(cell))
    above = list(takewhile(lambda row: not any(map(_is_address, row[1])), rows))
    header, fields = max(above, key=lambda row: _count_fields(row[1]), default=(0, []))
    known = [fields.index(field) for field in rank_fields(tuple(fields))[0]]
    if not known:  # a dot or a slash is in a faulty address, and not in a title
        titles = takewhile(lambda row: not any("." in cell or "/" in cell for cell in row[1]), above)
        header = max((number for number, _ in titles), default=0)
    addresses = _choose_addresses(fields, known, found)
    names = [  # a name may be an address, too
        column
        for column in map(fields.index, rank(fields, NAME_COLUMNS))
        if column not in addresses and (column not in found or simplify(fields[column]) in NAME_FIELDS)
    ]
    if not known and len(addresses) == 1 and max(len(row) for _, row in rows) == 2:
        names = [1 - addresses[0]]
    matches = sum(any(_is_address(row[column]) for column in addresses if column < len(row)) for _, row in rows)
    return Layout(delimiter, addresses, names, header, bool(known), matches)


def _choose_addresses(fields: Sequence[str], known: Sequence[int], found: Counter[int]) -> list[int]:
    holding = [column for column in known if found[column]]
    certain = [column for column in known if column not in holding and "url" in simplify(fields[column])]
    return [*holding, *certain] or [column for column, _ in found.most_common(1)] or [*known]


def _count_fields(row: Sequence[str]) -> int:
    """The number of cells that name a known field; 0 if none names the address."""
    fields = set(map(simplify, row))
    return len(fields & {*ADDRESS_FIELDS, *NAME_COLUMNS}) if fields & {*ADDRESS_FIELDS} else 0


def _first_of(row: Sequence[str], columns: Sequence[int]) -> str:
    for column in columns:  # not a generator, since this is called for each row
        if column < len(row) and row[column].strip():
            return row[column]
    return ""


def _is_address(cell: str) -> bool:
    try:
        return '"' not in cell and bool(normalise_address(cell))
    except InvalidAddress:
        return False


def _describe_error(message: str, has_more_lines: bool) -> Sentence:
    if "field limit" in message and not has_more_lines:
        return Sentence("It has a field of more than %(most)s characters.", most=csv.field_size_limit())
    if "after" in message and not has_more_lines:
        return Sentence("It has text after a closing quote; within quotes, write each quote twice.")
    return Sentence("It opens a quote that is never closed; within quotes, write each quote twice.")

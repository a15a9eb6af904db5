"""The rows of the table, by name and in the order of the table."""

from benchmarks.frame import Row
from benchmarks.rows import checks, fairness, feeds, imports, internet, million, pages, scaling, transitions, web

ROWS: dict[str, Row] = {
    row.name: row
    for module in (checks, feeds, internet, fairness, imports, million, transitions, pages, web, scaling)
    for row in module.ROWS
}

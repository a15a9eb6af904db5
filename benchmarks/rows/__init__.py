"""The rows of the table, by name and in the order of the table."""

from benchmarks.frame import Row
from benchmarks.rows import checks, feeds, imports, inside, internet, million, scaling, transitions

ROWS: dict[str, Row] = {
    row.name: row
    for module in (checks, feeds, internet, imports, million, transitions, inside, scaling)
    for row in module.ROWS
}

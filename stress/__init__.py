"""Stresses the queue: never two batches at once, never a lost result.

`python -m stress` runs real processes on SQLite and PostgreSQL: workers that are killed and frozen, operators, and API
clients. A watcher checks the invariants in one snapshot every 100 ms. Triggers log each result that changes a row, with
the run token of the result and the current one.
"""

"""Never two, never lost: the queue under fire.

`python -m stress` drives real processes on SQLite and on PostgreSQL: workers that are killed and frozen, operators and
callers of the API, while a watcher reads the invariants from one snapshot every 100 ms. Triggers write down every
result that changes a row, with the run token it came with and the one that was current.
"""

"""The tasks of procrastinate."""

import os

import procrastinate

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_URL"]))


@app.task
async def noop(number: int) -> bool:
    return True

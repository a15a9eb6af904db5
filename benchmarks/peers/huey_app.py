"""The tasks of huey, on SQLite or PostgreSQL."""

import logging
import os

from huey import PostgresHuey, SqliteHuey

URL = os.environ["BENCH_URL"]
# `fsync=False` is PRAGMA synchronous=0, faster than ours (NORMAL). Documented as safe unless the machine loses power:
# https://huey.readthedocs.io/en/latest/api.html#SqliteStorage
if URL.startswith("sqlite"):
    huey = SqliteHuey("bench", filename=URL.removeprefix("sqlite:///"), fsync=False, cache_mb=20)
else:
    huey = PostgresHuey("bench", dsn=URL)
logging.getLogger("huey").setLevel(logging.ERROR)


@huey.task()
def noop(number: int) -> bool:
    return True  # None would not be stored

"""A typical handwritten script: a pool of threads, requests, feedparser and sqlite3."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed

import feedparser
import fetching
import requests

THREADS = 20
options = fetching.options()
local = threading.local()
feeds = stories = 0


def fetch(url: str):
    if not hasattr(local, "session"):  # keeps its connections open
        local.session = requests.Session()
    return url, feedparser.parse(local.session.get(url, timeout=options["timeout"]).content).entries


with sqlite3.connect(options["database"]) as connection, ThreadPoolExecutor(THREADS) as pool:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS story (feed, id, title, url, PRIMARY KEY (feed, id))")
    for future in as_completed([pool.submit(fetch, url) for url in options["urls"]]):
        url, entries = future.result()
        rows = [(url, entry.get("id"), entry.get("title"), entry.get("link")) for entry in entries]
        connection.executemany("INSERT OR IGNORE INTO story VALUES (?, ?, ?, ?)", rows)
        connection.commit()
        feeds += 1
        stories += len(rows)
fetching.report(feeds, stories)

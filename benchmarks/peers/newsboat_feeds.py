"""newsboat reloads all feeds without its screen, with one thread for each concurrent request of the others
(`reload-threads`: https://newsboat.org/releases/2.21/docs/newsboat.html)."""

import sqlite3
import subprocess
from pathlib import Path

import fetching

options = fetching.options()
folder = Path(options["folder"])
urls, configuration, cache = folder / "urls", folder / "config", folder / "cache.db"
urls.write_text("\n".join(options["urls"]) + "\n")
configuration.write_text(f"reload-threads {options['at_once']}\nauto-reload no\ndownload-retries 1\n")
files = ["-u", urls, "-C", configuration, "-c", cache]
subprocess.run(["newsboat", "-q", *files, "-x", "reload"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
with sqlite3.connect(cache) as connection:
    [(feeds,)] = connection.execute("SELECT count(*) FROM rss_feed")
    [(stories,)] = connection.execute("SELECT count(*) FROM rss_item")
fetching.report(feeds, stories)

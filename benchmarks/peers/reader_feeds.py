"""reader: one call updates all feeds, with threads for the fetching
(https://reader.readthedocs.io/en/latest/guide.html#updating-feeds). Everything else is done in its one thread. With
its schedule it would not ask a feed again within the hour."""

import fetching
from reader import make_reader

THREADS = 20
options = fetching.options()
with make_reader(options["database"]) as reader:
    for url in options["urls"] if not options["known"] else ():
        reader.add_feed(url)
    reader.update_feeds(scheduled=False, workers=THREADS)
    updated = reader.get_feed_counts()
    stories = reader.get_entry_counts().total
fetching.report(updated.total - updated.broken, stories)

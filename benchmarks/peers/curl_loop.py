"""The fastest loop that we know: libcurl's multi interface, driven by hand, as in
http://pycurl.io/docs/latest/quickstart.html#retriever-multi. It records nothing and limits nothing.

With `parse` the documents are parsed too; without it, this is the limit of fetching alone.
"""

from io import BytesIO

import fastfeedparser
import fetching
import pycurl

options = fetching.options()
waiting = iter(options["urls"])
multi = pycurl.CurlMulti()
multi.setopt(pycurl.M_MAXCONNECTS, options["at_once"])
feeds = stories = 0


def make_handle() -> pycurl.Curl:
    handle = pycurl.Curl()
    handle.setopt(pycurl.NOSIGNAL, 1)
    handle.setopt(pycurl.ACCEPT_ENCODING, "")
    handle.setopt(pycurl.TIMEOUT, options["timeout"])
    if "authority" in options:
        handle.setopt(pycurl.CAINFO, options["authority"])
    return handle


def begin(handle: pycurl.Curl) -> bool:
    url = next(waiting, None)
    if url is None:
        return False
    handle.body = BytesIO()
    handle.setopt(pycurl.URL, url)
    handle.setopt(pycurl.WRITEDATA, handle.body)
    multi.add_handle(handle)
    return True


def finish(handle: pycurl.Curl) -> None:
    global feeds, stories
    feeds += 1
    if options["parse"]:
        stories += len(fastfeedparser.parse(handle.body.getvalue()).entries)


running = sum(begin(make_handle()) for _ in range(options["at_once"]))
while running:
    multi.perform()
    left = 1
    while left:
        left, succeeded, failed = multi.info_read()
        for handle in succeeded:
            finish(handle)
        for handle in [*succeeded, *(failure[0] for failure in failed)]:
            multi.remove_handle(handle)
            running -= not begin(handle)
    if running:
        multi.poll(1000) if hasattr(multi, "poll") else multi.select(1.0)
fetching.report(feeds, stories)

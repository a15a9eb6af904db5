"""Runs the web application like an installation, on a free port."""

import time
from multiprocessing.connection import Connection

from django.core.handlers.wsgi import WSGIHandler
from waitress import create_server


def serve(link: Connection) -> None:
    """Serve until killed."""
    server = create_server(WSGIHandler(), listen="127.0.0.1:0", threads=4)
    link.send(("listening", time.monotonic(), server.effective_port))
    server.run()

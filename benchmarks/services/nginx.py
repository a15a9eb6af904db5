"""Serves the feeds with Debian's nginx: a server in Python would be half of the measured time."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.commands import background
from benchmarks.frame import Unavailable
from benchmarks.services import wait_until

ECHO_MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")

# Like Debian's configuration: sendfile. One worker process, since the measured program needs a core.
CONFIGURATION = """
{modules}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8000; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    default_type application/rss+xml;
    server_names_hash_max_size 65536;
    client_body_temp_path {folder}/tmp;
    proxy_temp_path {folder}/tmp;
    fastcgi_temp_path {folder}/tmp;
    uwsgi_temp_path {folder}/tmp;
    scgi_temp_path {folder}/tmp;
{servers}
}}
"""


@contextmanager
def nginx(folder: Path, servers: str, prefix: Sequence[str] = ()) -> Iterator[None]:
    """Run nginx with these `server` blocks, after the `prefix` of a namespace. Raises Unavailable."""
    binary = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
    if binary is None:
        raise Unavailable("nginx is not installed: apt-get install nginx-light libnginx-mod-http-echo")
    modules = f"load_module {ECHO_MODULE};" if ECHO_MODULE.exists() else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, modules=modules, servers=servers))
    make_readable(folder)
    with background([*prefix, binary, "-e", "stderr", "-c", configuration]) as process:
        # It writes this file when it listens.
        pid = folder / "nginx.pid"
        wait_until(lambda: pid.exists() and bool(pid.read_text().strip()), process)
        yield


def make_readable(folder: Path) -> None:
    """As root, nginx serves files as another user."""
    for parent in (folder, *folder.parents):
        if parent.owner() == Path.home().owner() and str(parent) != "/":
            parent.chmod(parent.stat().st_mode | 0o755)


def location(root: Path, latency: float = 0.0) -> str:
    """Serve the files below `root`, each response after `latency` seconds."""
    if not latency:
        return f"location / {{ root {root}; }}"
    if not ECHO_MODULE.exists():
        raise Unavailable("nginx cannot wait: apt-get install libnginx-mod-http-echo")
    return (
        f"location / {{ echo_sleep {latency:g}; echo_exec @file; }}\n"
        f"        location @file {{ root {root}; gzip_static on; }}"
    )

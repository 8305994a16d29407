"""PostgreSQL: a cluster of our own, and a database for each use."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from layout import (
    BIGQUERY_URL,
    HOME,
    HOST,
    LOGS,
    PASSWORD,
    POSTGRESQL,
    STORAGE_URL,
    Version,
    postgresql_data,
)
from machine import StackError, run, user_of_postgresql

FAST_SHUTDOWN = signal.SIGINT  # PostgreSQL's own: does not wait for clients to go
ROLES = ("ckan", "datastore_ro")


def program(name: str) -> str:
    """The newest installed server's program (Debian keeps them off PATH)."""
    found = sorted(
        glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), key=lambda path: float(path.split("/")[4])
    )
    if not found:
        return name
    return found[-1]


def make_cluster() -> str:
    data = postgresql_data()
    if (data / "PG_VERSION").exists():
        return f"in {data}"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True, mode=0o700)
    account = user_of_postgresql()
    if account:
        shutil.chown(data, account, account)
    with tempfile.NamedTemporaryFile("w") as password:
        password.write(PASSWORD)
        password.flush()
        if account:
            shutil.chown(password.name, account)
        run(
            [
                *(program("initdb"), "--pgdata", str(data), "--username", "postgres"),
                *("--encoding", "UTF8", "--locale", "C.UTF-8"),
                *("--auth", "scram-sha-256", "--pwfile", password.name),
            ],
            LOGS / "initdb.log",
            user=account,
            cwd=Path("/"),
        )
    return f"made in {data}"


def server_command() -> list[str]:
    settings = {
        "listen_addresses": HOST,
        "port": str(POSTGRESQL),
        "unix_socket_directories": "",
        "max_connections": "200",
        # Nothing here is worth waiting for a disk.
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return [program("postgres"), "-D", str(postgresql_data()), *options]


def answers() -> bool:
    ready = [program("pg_isready"), "-q", "-h", HOST, "-p", str(POSTGRESQL)]
    return subprocess.run(ready).returncode == 0


def make_databases(version: Version) -> str:
    """Roles and databases, those that are missing."""
    roles = psql("SELECT rolname FROM pg_roles").split()
    for role in ROLES:
        if role not in roles:
            psql(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    there = psql("SELECT datname FROM pg_database").split()
    wanted = (version.site.database, version.tests.database, version.core_datastore)
    missing = [name for name in wanted if name not in there]
    for name in missing:
        psql(f"CREATE DATABASE {name} OWNER ckan")
    return f"made {', '.join(missing)}" if missing else "up to date"


def make_test_tables(version: Version, log: Path) -> str:
    """CKAN's tables for the tests, and the rights of core's DataStore on PostgreSQL."""
    if "package" in _tables(version.tests.database) and _role_may_read(version.core_datastore):
        return "up to date"
    # With core's own backend: the tables are the same, and the extension need not even start.
    ckan = [str(version.bin / "ckan"), "-c", str(version.core_ini)]
    env = {"BIGQUERY_EMULATOR_HOST": BIGQUERY_URL, "STORAGE_EMULATOR_HOST": STORAGE_URL}
    run([*ckan, "db", "init"], log, env=env, cwd=HOME)
    rights = subprocess.run(
        [*ckan, "datastore", "set-permissions"], capture_output=True, text=True, cwd=HOME
    )
    if rights.returncode != 0:
        raise StackError(f"`ckan datastore set-permissions` failed:\n{rights.stderr[-2000:]}")
    run([*_psql("postgres"), "-q"], log, env={"PGPASSWORD": PASSWORD}, stdin=rights.stdout)
    return "made"


def psql(statement: str, database: str = "postgres") -> str:
    """What the statement gives back, a line each row; as the superuser."""
    done = subprocess.run(
        [*_psql(database), "-tA", "-c", statement],
        env={**os.environ, "PGPASSWORD": PASSWORD},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise StackError(f"PostgreSQL refuses `{statement}`: {done.stderr.strip()}")
    return done.stdout


def _psql(database: str) -> list[str]:
    connection = ["-h", HOST, "-p", str(POSTGRESQL), "-U", "postgres", "-d", database]
    return [program("psql"), "-X", "-v", "ON_ERROR_STOP=1", *connection]


def _tables(database: str) -> list[str]:
    return psql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database).split()


def _role_may_read(database: str) -> bool:
    """`set-permissions` ran: it makes the view that lists the DataStore's tables."""
    return "_table_metadata" in psql(
        "SELECT viewname FROM pg_views WHERE schemaname = 'public'", database
    )

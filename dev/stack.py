"""The local stack: all that a CKAN site on BigQuery needs, on this machine, without any account.

    stack.py up [STEP …]   bring up the demo site, or only these steps and what they stand on
    stack.py restart       the CKAN site and its workers, to run changed code; or those named
    stack.py down          end what was started here, and nothing else
    stack.py status        what runs
    stack.py clean         down, and remove all that it keeps

In the environment: STACK_CKAN=2.11 chooses the CKAN version (default 2.12), STACK_PORT_OFFSET=1000
moves all ports, STACK_SERVER=asgi runs the site on uvicorn (default wsgi: gunicorn),
STACK_LANE=name gives a test run databases of its own (two at the same time), and STACK_PYTHON
chooses the interpreter. All it keeps is under .stack/; `. .stack/env` in a shell.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import databases
import site_config
import solr
from layout import (
    BIGQUERY,
    BIGQUERY_URL,
    CKAN,
    CREDENTIALS,
    HOME,
    HOST,
    LOCATION,
    LOGS,
    POSTGRESQL,
    PROJECT,
    REDIS,
    REPOSITORY,
    SERVER,
    SITE_URL,
    SOLR,
    STORAGE,
    STORAGE_URL,
    VERSIONS,
    Version,
    postgresql_data,
)
from machine import StackError, install_for_ckan, install_for_services, user_of_postgresql
from services import Service, Supervisor, queue_has_worker, redis_answers, url_answers
from steps import Step, run_steps
from venv_of import install_ckan


def services(version: Version) -> dict[str, Service]:
    """The table: what runs, where it listens, how it is started, and what shows that it is well."""
    rows = [
        Service(
            name="postgresql",
            ports=(POSTGRESQL,),
            command=databases.server_command(),
            healthy=databases.answers,
            user=user_of_postgresql(),
            stop_with=databases.FAST_SHUTDOWN,
        ),
        Service(
            name="redis",
            ports=(REDIS,),
            command=[
                *("redis-server", "--port", str(REDIS), "--bind", HOST),
                *("--dir", str(HOME), "--save", "", "--appendonly", "no"),
            ],
            healthy=lambda: redis_answers(REDIS),
        ),
        Service(
            name="solr",
            ports=(SOLR,),
            command=solr.server_command(),
            healthy=lambda: url_answers(f"http://{HOST}:{SOLR}/solr/admin/info/system"),
        ),
        Service(
            name="emulator",
            ports=(BIGQUERY, STORAGE),
            command=[
                *(str(version.bin / "python"), "-m", "ckanext.bigquery_datastore.emulator"),
                *("--data", str(HOME / "emulator"), "--host", HOST),
                *("--bigquery-port", str(BIGQUERY), "--storage-port", str(STORAGE)),
                *("--project", PROJECT, "--credentials-file", str(CREDENTIALS)),
                *("--bucket", version.site.bucket),
                # Tests change one table more often than people do: they would wait for minutes.
                # Those of the quota have emulators of their own, which keep to it.
                "--no-table-updates",
            ],
            healthy=lambda: (
                url_answers(f"{BIGQUERY_URL}/emulator/health")
                and url_answers(f"{STORAGE_URL}/storage/v1/b/{version.site.bucket}")
            ),
            variant=_emulator_code(),
        ),
        Service(
            name="ckan",
            ports=(CKAN,),
            command=SERVERS[SERVER](version),
            healthy=lambda: url_answers(f"{SITE_URL}/api/3/action/status_show"),
            env=_site_env(version),
            variant=f"{version.ckan} {SERVER} {site_config.digest(version)}",
        ),
        *(_worker(version, name, queue) for name, queue in WORKERS.items()),
    ]
    return {row.name: row for row in rows}


def _worker(version: Version, name: str, queue: str) -> Service:
    number, site = version.site.redis, site_config.site_id(version)
    return Service(
        name=name,
        ports=(),
        command=[str(version.bin / "ckan"), "-c", str(version.ini), "jobs", "worker", queue],
        healthy=lambda: queue_has_worker(REDIS, number, f"ckan:{site}:{queue}"),
        env=_site_env(version),
        variant=f"{version.ckan} {site_config.digest(version)}",
    )


def _site_env(version: Version) -> dict[str, str]:
    return {
        "CKAN_INI": str(version.ini),
        "BIGQUERY_EMULATOR_HOST": BIGQUERY_URL,
        "STORAGE_EMULATOR_HOST": STORAGE_URL,
    }


def _gunicorn(version: Version) -> list[str]:
    return [
        *(str(version.bin / "gunicorn"), "--chdir", str(REPOSITORY / "dev")),
        *("--bind", f"{HOST}:{CKAN}", "--workers", "2", "--threads", "8"),
        *("--access-logfile", "-", "--no-control-socket", "wsgi:application"),
    ]


def _uvicorn(version: Version) -> list[str]:
    return [
        *(str(version.bin / "uvicorn"), "ckanext.bigquery_datastore.asgi:application"),
        *("--host", HOST, "--port", str(CKAN), "--workers", "2"),
        *("--loop", "asyncio", "--timeout-graceful-shutdown", "10"),
    ]


# A queue has a worker of its own: a load does not wait for an export, which lets its table rest.
WORKERS = {"loads": "bigquery_loads", "exports": "bigquery_exports"}
SITE = ("ckan", *WORKERS)

SERVERS = {"wsgi": _gunicorn, "asgi": _uvicorn}


def _emulator_code() -> str:
    """What the emulator is made of: tests of changed code must not run against the old one."""
    package = REPOSITORY / "ckanext" / "bigquery_datastore" / "emulator"
    texts = b"".join(file.read_bytes() for file in sorted(package.rglob("*.py")))
    return hashlib.sha256(texts).hexdigest()[:12]


def steps(version: Version, supervisor: Supervisor) -> list[Step]:
    """All steps to the demo site, each with those it stands on."""

    def start(name: str, after: tuple[str, ...]) -> Step:
        # The table is read when its turn comes: before, the programs may not be installed.
        def run() -> str:
            return supervisor.start(services(version)[name])

        return Step(name, run, after, LOGS / f"{name}.log")

    apt = LOGS / "apt.log"

    def log(name: str) -> Path:
        return LOGS / f"{name}-{version.short}.log"

    return [
        Step("compilers", lambda: install_for_ckan(apt), (), apt),
        # One apt-get at a time; the venv is made meanwhile.
        Step("packages", lambda: install_for_services(apt), ("compilers",), apt),
        Step("jars", solr.fetch_jars, ("packages",), LOGS / "maven.log"),
        Step("venv", lambda: install_ckan(version, log("pip")), ("compilers",), log("pip")),
        Step("cluster", databases.make_cluster, ("packages",), LOGS / "initdb.log"),
        start("postgresql", ("cluster",)),
        start("redis", ("packages",)),
        start("solr", ("jars",)),
        start("emulator", ("venv",)),
        Step("cores", lambda: solr.make_cores(version), ("solr", "venv")),
        Step("databases", lambda: databases.make_databases(version), ("postgresql",)),
        Step("test-ini", lambda: site_config.write_test_inis(version), ()),
        Step(
            "test-tables",
            lambda: databases.make_test_tables(version, log("test-tables")),
            ("databases", "cores", "redis", "venv", "test-ini"),
            log("test-tables"),
        ),
        Step("services", lambda: "healthy", ("emulator", "test-tables")),
        Step("ini", lambda: site_config.write_ini(version, log("ini")), ("venv",), log("ini")),
        Step(
            "dataset",
            lambda: site_config.make_bigquery_dataset(version.site.dataset, LOCATION),
            ("emulator",),
        ),
        Step(
            "seed",
            lambda: site_config.seed(version, log("seed")),
            ("databases", "cores", "redis", "ini", "dataset"),
            log("seed"),
        ),
        *(start(name, ("seed",)) for name in SITE),
    ]


def up(version: Version, supervisor: Supervisor, wanted: list[str]) -> None:
    began = time.monotonic()
    wanted = wanted or ["services", *SITE]
    run_steps(steps(version, supervisor), wanted)
    env = site_config.write_env(version, site="ckan" in wanted)
    print(
        f"CKAN {version.ckan} stack: ready in {time.monotonic() - began:.1f} s. "
        f"In a shell: . {env.relative_to(REPOSITORY)}"
    )


def down(supervisor: Supervisor) -> None:
    for name in supervisor.names():
        print(f"  {name:<12} {supervisor.stop(name)}", flush=True)


def clean(supervisor: Supervisor) -> None:
    down(supervisor)
    for folder in (postgresql_data(), HOME):
        shutil.rmtree(folder, ignore_errors=True)
        print(f"  removed      {folder}")


def status(version: Version, supervisor: Supervisor) -> None:
    for name, service in services(version).items():
        running = supervisor.running(name)
        health = "healthy" if service.healthy() else "does not answer"
        print(f"  {name:<12} {f'pid {running.pid}, {health}' if running else 'not running'}")


def main(arguments: list[str]) -> int:
    command, *rest = arguments or ["help"]
    version = Version(os.environ.get("STACK_CKAN", "2.12"))
    try:
        if SERVER not in SERVERS:
            raise StackError(f"STACK_SERVER={SERVER}: known are {', '.join(SERVERS)}")
        if version.short not in VERSIONS:
            raise StackError(f"STACK_CKAN={version.short}: known are {', '.join(VERSIONS)}")
        LOGS.mkdir(parents=True, exist_ok=True)
        (HOME / "run").mkdir(exist_ok=True)
        supervisor = Supervisor(HOME / "run", LOGS)
        with _one_at_a_time():
            if command == "up":
                up(version, supervisor, rest)
            elif command == "restart":
                for name in rest or SITE:
                    supervisor.stop(name)
                up(version, supervisor, rest or list(SITE))
            elif command == "down":
                down(supervisor)
            elif command == "clean":
                clean(supervisor)
            elif command == "status":
                status(version, supervisor)
            else:
                print(__doc__)
    except StackError as err:
        print(f"\n{err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. What runs already stays up until `make stop`.", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two shells may say `make stack` at once: the second waits, and finds all done."""
    with (HOME / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("  waiting for another command on this stack to end …", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""CKAN processes to be measured: ours on an emulator of its own, core's on PostgreSQL.

    with bed() as ini, Side(ini.ours) as ours, Side(ini.core) as core:
        ours.do(make, 1000)

A ``Side`` does one thing after the other, each a function of a module with CKAN's app before its
other arguments; so two of them are measured alternately. Needs the services of ``make services``.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

STACK = Path(__file__).resolve().parents[1] / ".stack"
MB = 2**20


@dataclass(frozen=True)
class Bed:
    """Ini files of the tests' site: on BigQuery with a dataset of its own, and on PostgreSQL."""

    ours: Path
    core: Path
    emulator: Any
    folder: Path


@contextmanager
def bed() -> Iterator[Bed]:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery, storage

    from ckanext.bigquery_datastore.tests.conftest import stack_ini
    from ckanext.bigquery_datastore.tests.emulated import OwnEmulator

    # Not below /tmp, which may be memory: tables of gigabytes are made.
    with tempfile.TemporaryDirectory(dir=STACK) as folder:
        own = OwnEmulator(Path(folder))
        os.environ.update(own.environment)
        try:
            name = f"bench_{uuid.uuid4().hex[:8]}"
            bucket = name.replace("_", "-")
            made = bigquery.Dataset(f"local.{name}")
            made.location = "EU"
            bigquery.Client("local", AnonymousCredentials()).create_dataset(made)
            storage.Client("local", AnonymousCredentials()).create_bucket(bucket)
            base, ini = stack_ini(""), Path(folder) / "ckan.ini"
            ini.write_text(
                f"[app:main]\nuse = config:{base}\n"
                f"ckan.datastore.write_url = bigquery://local/{name}\n"
                f"ckan.datastore.read_url = bigquery://local/{name}\n"
                f"ckanext.bigquery_datastore.export_bucket = {bucket}\n"
                f"ckanext.bigquery_datastore.credentials = {own.key_file}\n"
                f"ckanext.bigquery_datastore.credentials_ro = {own.key_file}\n"
                + "".join(base.read_text().partition("[loggers]")[1:])
            )
            yield Bed(ini, stack_ini("-postgresql"), own, Path(folder))
        finally:
            own.end()


class Side:
    """One CKAN process, which does what it is told."""

    def __init__(self, ini: Path) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, there = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(there, str(ini)), daemon=True)
        self._process.start()
        there.close()

    def do(self, work: Callable[..., Any], *args: Any) -> Any:
        """What ``work(app, *args)`` gives there."""
        self._pipe.send((work, args))
        well, answer = self._pipe.recv()
        if not well:
            raise RuntimeError(answer)
        return answer

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()
        self._process.join(20)
        self._process.kill()


def _serve(pipe: Connection, ini: str) -> None:
    app = application(ini)
    while True:
        try:
            work, args = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, work(app, *args)))
        except Exception:  # noqa: BLE001 – told where it was asked for
            pipe.send((False, traceback.format_exc()))


def application(ini: str) -> Any:
    from ckan.cli import load_config
    from ckan.config.middleware import make_app

    from ckanext.bigquery_datastore import clients

    logging.disable(logging.INFO)
    # An emulator on a busy machine is slower than Google.
    clients.CALL_SECONDS = 60.0
    site = make_app(load_config(ini))
    return getattr(site, "_wsgi_app", site)


@dataclass(frozen=True)
class Spent:
    """What a work took of the process that did it: seconds, seconds of CPU, bytes at the most."""

    seconds: float
    cpu: float
    memory: int


def spend(work: Callable[[], object]) -> Spent:
    """Do it, and look at clock, CPU (all threads) and the most memory beyond what was there."""
    # https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html: the peak begins anew.
    Path("/proc/self/clear_refs").write_text("5")
    before, cpu, begun = memory("VmRSS"), time.process_time(), time.perf_counter()
    work()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return Spent(seconds, cpu, max(0, memory("VmHWM") - before))


def memory(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) * 1024


def a_resource(app: Any) -> str:
    from ckan.tests import factories

    with app.test_request_context():
        return factories.Resource()["id"]


def call(app: Any, action: str, **params: Any) -> Any:
    from ckan.tests import helpers

    with app.test_request_context():
        return helpers.call_action(action, {"query_timeout": 600_000}, **params)

"""One process with both services: started, announced, ended as one."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from .admin import Admin
from .bigquery.api import BigQuery, application
from .bigquery.googlesql import judge_or_none
from .bigquery.runtime import Runtime
from .credentials import write_key_file
from .faults import Application, Faults
from .identities import Identities
from .server import Server
from .storage.backend import Backend
from .storage.buckets import Buckets
from .storage.child import StorageChild, StorageFailed
from .storage.client import StorageClient
from .storage.compose import Files
from .storage.server import Storage
from .storage.switches import Switches


class CannotStart(Exception):
    """The emulator cannot start; the message is one sentence for a person."""


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    data: Path | None = None
    host: str = "127.0.0.1"
    bigquery_port: int = 9050
    storage_port: int = 4443
    project: str = "local"
    location: str = "EU"
    buckets: tuple[str, ...] = field(default=())
    credentials_file: Path | None = None
    reset: bool = False
    table_updates: bool = True

    @property
    def bigquery_url(self) -> str:
        """Where BigQuery answers."""
        return f"http://{self.host}:{self.bigquery_port}"

    @property
    def storage_url(self) -> str:
        """Where Cloud Storage answers."""
        return f"http://{self.host}:{self.storage_port}"


def run(settings: Settings, ready: Callable[[Settings], None]) -> None:
    """Run both services until SIGTERM or SIGINT; ``ready`` is called when they answer.

    Raises CannotStart.
    """
    for name, port in (
        ("BigQuery", settings.bigquery_port),
        ("Cloud Storage", settings.storage_port),
    ):
        _require_free(name, settings.host, port)
    with ExitStack() as stack:
        data = _data_folder(settings, stack)
        if settings.credentials_file is not None:
            write_key_file(
                settings.credentials_file,
                settings.project,
                f"{settings.bigquery_url}/emulator/token",
            )
        child = StorageChild(data / "storage", _free_port(), settings.storage_url)
        stack.callback(child.stop)
        try:
            runtime = Runtime(data / "bigquery", settings.project)
            stack.callback(runtime.close)
            child.wait_until_ready()
        except StorageFailed as error:
            raise CannotStart(str(error)) from error
        client = StorageClient(child.url)
        stack.callback(client.close)
        for bucket in settings.buckets:
            client.create_bucket(settings.project, bucket)
        faults, identities = Faults(), Identities()
        if settings.credentials_file is not None:
            identities.learn(settings.credentials_file)
        bigquery = BigQuery(runtime, client, faults, judge_or_none())
        stack.callback(bigquery.jobs.close)
        at_start = Switches(table_updates=settings.table_updates)
        admin = Admin(bigquery, child, identities, faults, at_start=at_start)
        buckets = Buckets(data / "buckets.json", settings.location, identities)
        files = Files(data / "storage", data / "composing")
        backend = Backend("127.0.0.1", child.port, f"{settings.host}:{settings.storage_port}")
        storage = Storage(backend, buckets, identities, admin.switches, files)
        servers = {
            settings.bigquery_port: admin.watched(
                application(bigquery, admin.routes()), "bigquery"
            ),
            settings.storage_port: admin.watched(storage, "storage"),
        }
        uvloop.run(_serve(settings.host, servers, lambda: ready(settings)))


async def _serve(host: str, servers: Mapping[int, Application], ready: Callable[[], None]) -> None:
    """Serve each application on its port until a signal comes."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    running = [Server(application, host, port) for port, application in servers.items()]
    tasks = [asyncio.create_task(server.serve()) for server in running]
    while not all(server.started for server in running) and not any(t.done() for t in tasks):
        await asyncio.sleep(0.01)
    ready()
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
    for server in running:
        server.should_exit = True
    await asyncio.gather(*tasks)


def _require_free(service: str, host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotStart(
                f"Port {port} on {host}, meant for {service}, is in use: stop what listens there "
                f"or choose another port ({error.strerror})."
            ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _data_folder(settings: Settings, stack: ExitStack) -> Path:
    if settings.data is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bigquery-emulator-")))
    if settings.reset and settings.data.exists():
        for name in ("bigquery", "storage"):
            shutil.rmtree(settings.data / name, ignore_errors=True)
        (settings.data / "buckets.json").unlink(missing_ok=True)
    settings.data.mkdir(parents=True, exist_ok=True)
    return settings.data.resolve()

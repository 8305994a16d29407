"""One process with both services: started, announced, ended as one."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from .bigquery import BigQuery, application
from .credentials import write_key_file
from .runtime import Runtime
from .storage_child import StorageChild, StorageFailed
from .storage_client import StorageClient


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
    buckets: tuple[str, ...] = field(default=())
    credentials_file: Path | None = None
    reset: bool = False

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
    for name, port in (("BigQuery", settings.bigquery_port), ("Storage", settings.storage_port)):
        _require_free(name, settings.host, port)
    with ExitStack() as stack:
        data = _data_folder(settings, stack)
        if settings.credentials_file is not None:
            write_key_file(settings.credentials_file, settings.project)
        child = StorageChild(data / "storage", settings.storage_port, settings.storage_url)
        stack.callback(child.stop)
        try:
            runtime = Runtime(data / "bigquery", settings.project)
            stack.callback(runtime.close)
            child.wait_until_ready()
        except StorageFailed as error:
            raise CannotStart(str(error)) from error
        storage = StorageClient(child.url)
        stack.callback(storage.close)
        for bucket in settings.buckets:
            storage.create_bucket(settings.project, bucket)
        bigquery = BigQuery(runtime, storage)
        stack.callback(bigquery.jobs.close)
        asyncio.run(_serve(settings, bigquery, lambda: ready(settings)))


async def _serve(settings: Settings, bigquery: BigQuery, ready: Callable[[], None]) -> None:
    server = _Server(
        uvicorn.Config(
            application(bigquery, []),
            host=settings.host,
            port=settings.bigquery_port,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
    )
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    ready()
    await asyncio.wait(
        [serving, asyncio.create_task(ended.wait())], return_when=asyncio.FIRST_COMPLETED
    )
    server.should_exit = True
    await serving


class _Server(uvicorn.Server):
    """uvicorn that leaves the signals to us."""

    def capture_signals(self):  # type: ignore[no-untyped-def]
        from contextlib import nullcontext

        return nullcontext()


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


def _data_folder(settings: Settings, stack: ExitStack) -> Path:
    if settings.data is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bigquery-emulator-")))
    if settings.reset and settings.data.exists():
        for name in ("bigquery", "storage"):
            shutil.rmtree(settings.data / name, ignore_errors=True)
    settings.data.mkdir(parents=True, exist_ok=True)
    return settings.data.resolve()

"""bqemulator put together for our process: engine, catalogue, application.

Everything of bqemulator that we keep runs through ``Runtime``: ``call`` answers
one HTTP request with bqemulator's own application, in a thread with a session and
an event loop of its own, so that nothing it does stops the server.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bqemulator.api.app import create_app
from bqemulator.api.dependencies import AppContext
from bqemulator.config import PersistenceMode, Settings
from bqemulator.domain.clock import SystemClock
from bqemulator.domain.events import EventBus
from bqemulator.observability.metrics import MetricsRegistry
from bqemulator.row_access.policy import RowAccessPolicyManager
from bqemulator.storage import type_map
from bqemulator.udf.runtime import UDFRegistry

from . import dialect, documents, scripts, wire
from .catalog import Catalog
from .engine import Engine, TableName
from .history import History
from .quota import UpdateQuota
from .tables import refresh

T = TypeVar("T")
_THREADS = 32


class CatalogConnection:
    """What bqemulator's catalogue needs of an engine: a connection outside any transaction.

    A script's ROLLBACK must not undo the catalogue's rows under its cache.
    """

    def __init__(self, engine: Engine) -> None:
        self._cursor = engine.root.cursor()
        self._lock = threading.RLock()

    @property
    def connection(self) -> Any:
        return self._cursor

    def execute(self, sql: str, parameters: list[Any] | None = None) -> Any:
        with self._lock:
            return self._cursor.execute(sql, parameters or [])


@dataclass(frozen=True)
class Answer:
    """An HTTP answer with its whole body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Runtime:
    """bqemulator's context and application over one data folder."""

    def __init__(self, data: Path, project: str) -> None:
        # DuckDB's decimals end at 38 digits: BIGNUMERIC keeps 20 before and 18 after the point.
        type_map._BQ_TO_DUCKDB["BIGNUMERIC"] = "DECIMAL(38, 18)"
        scripts.install()
        wire.install()
        settings = Settings(
            persistence_mode=PersistenceMode.PERSISTENT,
            data_dir=data,
            default_project_id=project,
            enable_format_extensions=False,
            admin_enabled=False,
        )
        self.project = project
        self.data = data
        self.engine = Engine(settings, data / "spill")
        asyncio.run(self.engine.start())
        documents.install(self.engine.root)
        dialect.install(self.engine.root.execute)
        self.catalog = Catalog(CatalogConnection(self.engine))  # type: ignore[arg-type]
        catalog = self.catalog
        catalog.ensure_ready()
        self.updates = UpdateQuota(catalog.is_partitioned)
        clock, events = SystemClock(), EventBus()
        udf_registry = UDFRegistry(settings)
        self.history = History(self.engine, catalog, clock, events, retention_days=7)
        self.context = AppContext(
            settings=settings,
            clock=clock,
            engine=self.engine,
            catalog=catalog,
            metrics=MetricsRegistry(),
            events=events,
            udf_registry=udf_registry,
            snapshots=self.history,
            row_access=RowAccessPolicyManager(catalog=catalog, clock=clock),
        )
        self.engine.changed = self._changed
        udf_registry.hydrate(catalog, self.engine)
        self._app = create_app(self.context)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="emulator")

    def _changed(self, name: TableName) -> None:
        refresh(self.context, name)
        self.history.keep(name.project, name.dataset, name.table)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """``work`` in a thread with a session of its own."""

        def run() -> T:
            with self.engine.session():
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def call(self, scope: dict[str, Any], body: bytes) -> Answer:
        """bqemulator's own answer to a request."""
        return await self.in_thread(lambda: asyncio.run(self._call(scope, body)))

    async def _call(self, scope: dict[str, Any], body: bytes) -> Answer:
        messages: list[dict[str, Any]] = []
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if unread:
                return unread.pop()
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

        async def send(message: Any) -> None:
            messages.append(message)

        inner = {**scope, "app": None, "state": {}}
        await self._app(inner, receive, send)
        start = next(m for m in messages if m["type"] == "http.response.start")
        parts = [m.get("body", b"") for m in messages if m["type"] == "http.response.body"]
        return Answer(start["status"], list(start.get("headers", [])), b"".join(parts))

    def close(self) -> None:
        """End the threads and close the database."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        asyncio.run(self.engine.stop())

"""DuckDB for bqemulator, usable from many threads at once.

bqemulator keeps one DuckDB connection and runs every statement on its event
loop, so one long export stops every other request. Here each request and each
job has a session of its own: a cursor (a connection to the same database) kept
in a context variable. Readers never wait; whoever writes holds one lock, because
DuckDB refuses a second writer of the same rows where BigQuery queues it.

A session also remembers which tables its statements wrote to: that is how a
change reaches ``lastModifiedTime`` (see ``tables``), whichever way the statement
came in (a single statement, a script, EXECUTE IMMEDIATE).
"""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bqemulator.config import Settings
from bqemulator.storage import sql_identifiers
from bqemulator.storage.engine import DuckDBEngine, _annotate_with_duckdb_types

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# Names of BigQuery's tables have letters of any script, and spaces.
sql_identifiers._SQL_SAFE_ID_RE = re.compile(r"\w[\w\- ]{0,1023}\Z")

_WRITE = re.compile(
    r"^\s*(?:WITH\b.*?\)\s*)?(INSERT|UPDATE|DELETE|MERGE|TRUNCATE|ALTER|CREATE|DROP)\b",
    re.IGNORECASE | re.DOTALL,
)
_QUALIFIED = re.compile(r'"?([A-Za-z0-9_][A-Za-z0-9_\-]*?)__([A-Za-z0-9_]+)"?\."?([^".\s(;]+)"?')


_ACTIONS = re.compile(r"\s*(ALTER TABLE (?:IF EXISTS )?(?:\"[^\"]+\"|[\w.])+)\s+(.*)", re.DOTALL)
_NEXT_ACTION = re.compile(r",\s*(?=(?:ADD|DROP) COLUMN\b)")


def one_action_each(sql: str) -> list[str]:
    """An ALTER TABLE with several actions, which DuckDB refuses, as one statement for each."""
    match = _ACTIONS.fullmatch(sql)
    if match is None:
        return [sql]
    return [f"{match.group(1)} {action}" for action in _NEXT_ACTION.split(match.group(2))]


@dataclass(frozen=True)
class TableName:
    """A table by its three names."""

    project: str
    dataset: str
    table: str

    def __str__(self) -> str:
        return f"{self.project}:{self.dataset}.{self.table}"

    @property
    def quoted(self) -> str:
        """As DuckDB knows it: ``"project__dataset"."table"``."""
        return f'"{self.project}__{self.dataset}".{quote_name(self.table)}'


def quote_name(name: str) -> str:
    """``name`` as an SQL identifier of DuckDB."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """``text`` as an SQL string literal of DuckDB."""
    return "'" + text.replace("'", "''") + "'"


@dataclass
class Session:
    """One request's or job's own connection, and the tables it wrote to, in order."""

    connection: duckdb.DuckDBPyConnection
    written: list[TableName] = field(default_factory=list)

    def wrote(self, sql: str, rows: int | None) -> None:
        """Note the target of a statement that changed ``rows`` rows (None: unknown)."""
        if rows == 0 or not (verb := _WRITE.match(sql)):
            return
        if target := _QUALIFIED.search(sql, verb.end(1)):
            self.written.append(TableName(*target.groups()))


_session: ContextVar[Session | None] = ContextVar("emulator_session", default=None)


def current_session() -> Session | None:
    """The session of the request or job that runs here."""
    return _session.get()


class Engine(DuckDBEngine):
    """bqemulator's engine with a cursor per session and a lock across threads."""

    def __init__(self, settings: Settings, spill: Path) -> None:
        super().__init__(settings)
        self._spill = spill
        self._writer = threading.RLock()
        self.changed: Callable[[TableName], None] = lambda name: None

    def _apply_session_pragmas(self) -> None:
        root = self.root
        root.execute("SET GLOBAL TimeZone = 'UTC'")
        root.execute(f"SET GLOBAL temp_directory = {quote_text(str(self._spill))}")
        root.execute("SET GLOBAL memory_limit = '4GB'")

    def _load_spatial(self) -> None:
        import duckdb

        try:
            self.root.execute("LOAD spatial")
        except duckdb.Error:
            # The wheel carries the extension; INSTALL would download it.
            import duckdb_extensions

            duckdb_extensions.import_extension("spatial")
            self.root.execute("LOAD spatial")

    @property
    def root(self) -> duckdb.DuckDBPyConnection:
        """The first connection, the parent of every session's."""
        return super().connection

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The connection of the session that runs here, else the first one."""
        session = _session.get()
        return session.connection if session is not None else self.root

    def execute(self, sql: str, parameters: list[Any] | None = None) -> duckdb.DuckDBPyConnection:
        """Run ``sql`` in the session; a change is noted there."""
        *before, sql = one_action_each(sql)
        for statement in before:
            super().execute(statement)
        result = super().execute(sql, parameters)
        if (session := _session.get()) is not None:
            session.wrote(sql, None)
        return result

    def fetch_arrow(self, sql: str, parameters: list[Any] | None = None) -> pa.Table:
        """Run ``sql`` and return its rows; a change is noted in the session."""
        *before, sql = one_action_each(sql)
        for statement in before:
            super().execute(statement)
        result = super().execute(sql, parameters)
        table = _annotate_with_duckdb_types(result.to_arrow_table(), result.description)
        if (session := _session.get()) is not None:
            counted = table.column_names == ["Count"] and table.num_rows == 1
            session.wrote(sql, table.column(0)[0].as_py() if counted else None)
        return table

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A connection of its own for what runs inside."""
        session = Session(self.root.cursor())
        token = _session.set(session)
        try:
            yield session
            for name in dict.fromkeys(session.written):
                self.changed(name)
        finally:
            _session.reset(token)
            session.connection.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock of those who write; the thread may take it again."""
        with self._writer:
            yield

    @asynccontextmanager
    async def write_lock(self) -> AsyncIterator[None]:
        """The same lock, as bqemulator takes it (its code runs in a thread of its own)."""
        with self._writer:
            yield

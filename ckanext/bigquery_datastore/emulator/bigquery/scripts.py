"""Multi-statement scripts whose transactions are DuckDB's own, and that rename tables.

bqemulator copies a whole table at its first change inside BEGIN TRANSACTION.
Sessions have a connection each here, so the transaction can be a real one:
nobody else sees it before COMMIT, ROLLBACK costs nothing, and a script that ends
with an open transaction is rolled back, as BigQuery does.
"""

from __future__ import annotations

import contextlib
from typing import cast

import duckdb
from bqemulator.jobs import executor
from bqemulator.scripting.interpreter import ScriptInterpreter, ScriptResult

from .engine import Engine, TableName, current_session
from .renames import rename


class Interpreter(ScriptInterpreter):
    """bqemulator's script interpreter on DuckDB transactions."""

    _marker: int = 0

    async def run(self, source: str) -> ScriptResult:
        """Run the script; what it left uncommitted is undone."""
        try:
            return await super().run(source)
        finally:
            self._roll_back()

    async def _exec_sql(self, sql: str) -> None:
        if rename(self._ctx, cast(Engine, self._ctx.engine), self._project_id, sql):
            self._final_table = None
        else:
            await super()._exec_sql(sql)

    async def _handle_txn_statement(self, op: str) -> None:
        if op == "BEGIN" and self._active_txn is None:
            self._active_txn = {}
            self._marker = len(self._written())
            self._ctx.engine.execute("BEGIN TRANSACTION")
        elif op == "COMMIT" and self._active_txn is not None:
            self._ctx.engine.execute("COMMIT")
            self._active_txn = None
        elif op == "ROLLBACK":
            self._roll_back()

    def _roll_back(self) -> None:
        if self._active_txn is None:
            return
        self._active_txn = None
        # DuckDB may have ended a broken transaction by itself.
        with contextlib.suppress(duckdb.TransactionException):
            self._ctx.engine.execute("ROLLBACK")
        del self._written()[self._marker :]

    def _written(self) -> list[TableName]:
        session = current_session()
        return session.written if session is not None else []

    # An exception handler of the script decides itself whether to roll back.
    async def _drop_txn_snapshots(self) -> None:
        return

    async def _restore_txn_snapshots(self) -> None:
        self._roll_back()

    async def _snapshot_dml_targets(self, sql: str) -> None:
        return


def install() -> None:
    """Let bqemulator's executor use this interpreter."""
    executor.ScriptInterpreter = Interpreter  # type: ignore[misc]

"""Query jobs: bytes counted and limited, dry runs, EXPORT DATA, and bqemulator for the rest."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb
import sqlglot
from bqemulator.api.routes.jobs import _apply_default_dataset, _destructive_dry_run_schema
from bqemulator.domain.errors import DomainError
from bqemulator.jobs.error_mapper import translate_runtime_error
from bqemulator.jobs.executor import (
    JOB_RESULTS,
    JOB_SCHEMAS,
    build_response_schema,
    classify_statement_type,
    execute_query_job,
)
from bqemulator.row_access.identity import CallerIdentity
from bqemulator.sql import inner_query
from bqemulator.sql.parameters import bind_parameters
from bqemulator.sql.table_rewriter import rewrite_table_refs
from bqemulator.sql.translator import SQLTranslator
from sqlglot import exp
from sqlglot.errors import SqlglotError

from ..errors import ApiError, Stopped
from . import partitioning
from .access import Access
from .billing import Cost
from .cache import Results
from .costing import Costing
from .ddl import Definition, definition_of, dropped_columns
from .dialect import column_names
from .disorder import is_ordered, shuffled
from .engine import TableName, quote_name
from .exports import Exporter, parse_export
from .job import Job
from .limits import check_query
from .load_reading import types_of
from .references import read_by, target_of, views_of
from .renames import rename
from .shards import Source
from .tables import enter, refresh, touched

if TYPE_CHECKING:
    from .runtime import Runtime

_CALLER = CallerIdentity(principal="user:anonymous@bqemulator.local", is_authenticated=False)
# https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#JobStatistics2
_MOST_REFERENCES = 50
_READS = ("SELECT", "EXPORT_DATA")
_CHANGES = ("INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE_TABLE")


def statement_type(sql: str) -> str:
    """BigQuery's name for the kind of statement; SCRIPT for several."""
    found: str = classify_statement_type(sql)
    if found:
        return found
    try:
        trees = [tree for tree in sqlglot.parse(sql, read="bigquery") if tree]
        if len(trees) > 1:
            return "SCRIPT"
        return "SELECT" if trees and isinstance(trees[0], exp.Query) else ""
    except SqlglotError:
        return "SCRIPT" if ";" in sql.strip().rstrip(";") else ""


class Queries:
    """Runs query jobs on one engine."""

    def __init__(
        self, runtime: Runtime, exporter: Exporter, costing: Costing, access: Access
    ) -> None:
        self._access = access
        self._context = runtime.context
        self._catalog = runtime.catalog
        self._engine = runtime.engine
        self._costing = costing
        self._results = Results()
        self._updates = runtime.updates
        self._exporter = exporter
        self._translator = SQLTranslator()

    def sql_of(self, job: Job) -> str:
        """The statement, table names qualified by the job's default dataset."""
        sql = str(job.settings.get("query", ""))
        if not sql.strip():
            raise ApiError("required", "Required parameter is missing: query")
        views = views_of(self._catalog, job.project, sql)
        check_query(sql, job.settings.get("queryParameters") or (), views)
        qualified: str = _apply_default_dataset(sql, job.settings, request_project_id=job.project)
        self._access.check_query(job.user, job.project, qualified)
        return qualified

    def run(self, job: Job) -> None:
        """Run the job's statement. A read sees the data as it was when the job started."""
        sql = self.sql_of(job)
        self._note(job, cost := self._costing.cost(job, sql))
        names = read_by(self._catalog, job.project, sql)
        catalog = self._context.catalog
        tables = [catalog.get_table(name.project, name.dataset, name.table) for name in names]
        key = self._results.key(job, sql, tables)
        if self._results.give(key, job):
            job.wait_until(1)
            return
        try:
            self._limit(job, cost)
            self._run(job, sql)
            self._results.keep(key, job)
        except Stopped:
            raise  # https://cloud.google.com/bigquery/pricing: a cancelled query may cost as much
        except Exception:
            # "You aren't charged for queries that return an error": the same page.
            job.statistics["query"]["totalBytesBilled"] = "0"
            raise

    def _run(self, job: Job, sql: str) -> None:
        if job.statement_type == "EXPORT_DATA":
            self._export(job, sql)
        elif job.statement_type in _READS:
            target = job.settings.get("destinationTable")
            self._execute(job, sql)
            job.wait_until(1)
            if target:
                self._store(
                    job, TableName(target["projectId"], target["datasetId"], target["tableId"])
                )
        else:
            job.wait_until(1)
            with self._engine.writing():
                job.check()
                self._take(job, sql)
                parameters = job.settings.get("queryParameters") or []
                if definition := definition_of(job.project, sql, parameters):
                    self._define(job, definition)
                elif not self._rename(job, sql):
                    self._check_drops(job, sql)
                    self._execute(job, sql)
                    self._partition(job, sql)

    def _take(self, job: Job, sql: str) -> None:
        """A change counts among those of its table; only one of its definition can be too much."""
        if (target := target_of(job.project, sql)) is None:
            return
        if job.statement_type.startswith(("CREATE_TABLE", "ALTER_TABLE")):
            self._updates.take(target)
        elif job.statement_type in _CHANGES:
            self._updates.count(target)

    def _rename(self, job: Job, sql: str) -> bool:
        try:
            return rename(self._context, self._engine, job.project, sql)
        except DomainError as error:
            raise ApiError.of(error) from error

    def _partition(self, job: Job, sql: str) -> None:
        """Note the partitions of a table that bqemulator has made without them."""
        tree = partitioning.of_created(sql)
        if tree is None:
            return
        name, catalog = partitioning.target_of(tree, job.project), self._context.catalog
        refresh(self._context, name)
        meta = catalog.get_table(name.project, name.dataset, name.table)
        if meta is not None and (ranges := partitioning.of_ddl(tree, meta.schema_.fields)):
            catalog.update_table(touched(meta, range_partitioning=ranges))

    def _check_drops(self, job: Job, sql: str) -> None:
        """Clustering columns stay: bqemulator would drop them, and BigQuery does not."""
        target, columns = dropped_columns(job.project, sql)
        meta = target and self._context.catalog.get_table(
            target.project, target.dataset, target.table
        )
        clustered = meta.clustering.fields if meta and meta.clustering else ()
        for column in set(columns) & set(clustered):
            raise ApiError(
                "invalidQuery",
                f"The table {target} is clustered by {column}, which cannot be dropped.",
                location="query",
            )

    def dry_run(self, job: Job) -> None:
        """Fill in bytes and schema without running anything."""
        sql = self.sql_of(job)
        cost = self._costing.cost(job, sql)
        self._note(job, replace(cost, processed=cost.most_processed, billed=cost.most_billed))
        if cost.processed < cost.most_processed:
            job.statistics["query"]["totalBytesProcessedAccuracy"] = "UPPER_BOUND"
        job.settings.setdefault("dryRun", True)
        query = job.statistics["query"]
        query["totalBytesBilled"] = "0"
        self._limit(job, cost)
        if job.statement_type in ("SELECT", ""):
            source = self._translated(job, sql)
            try:
                found = self._engine.fetch_arrow(f"SELECT * FROM ({source[0]}) LIMIT 0", source[1])
            except duckdb.Error as error:
                raise _in_bigquery_words(error, source[0]) from error
            fields = build_response_schema(found.schema)
        elif job.statement_type == "EXPORT_DATA":
            self._source(job, parse_export(sql).select)
            fields = []
        else:
            fields = _destructive_dry_run_schema(
                bq_sql=sql,
                statement_type=job.statement_type,
                project_id=job.project,
                ctx=self._context,
            )
        query["schema"] = {"fields": fields}
        job.schema = fields

    def _execute(self, job: Job, sql: str) -> None:
        """bqemulator's own execution; it leaves rows and schema in its registries."""
        parameters = job.settings.get("queryParameters")
        meta = asyncio.run(
            execute_query_job(job.project, job.id, sql, parameters, self._context, caller=_CALLER)
        )
        job.rows = JOB_RESULTS.pop(job.id, None)
        job.schema = JOB_SCHEMAS.pop(job.id, [])
        if job.statement_type == "SELECT" and job.rows is not None:
            names = column_names(sql, job.rows.column_names)
            job.rows = job.rows.rename_columns(names)
            job.schema = [
                {**column, "name": name} for column, name in zip(job.schema, names, strict=True)
            ]
            if not (job.is_as_stored or is_ordered(sql)):
                job.rows = shuffled(job.rows, job.id)
        for key, value in (meta.statistics.get("query") or {}).items():
            if key not in ("totalBytesProcessed",):
                job.statistics["query"][key] = value
        if meta.statistics.get("scriptStatistics"):
            job.statistics["scriptStatistics"] = meta.statistics["scriptStatistics"]
        found = (meta.configuration.get("query") or {}).get("destinationTable")
        if found:
            job.settings.setdefault("destinationTable", found)

    def _store(self, job: Job, target: TableName) -> None:
        """Write a SELECT's rows into the table that the job names, by its dispositions."""
        catalog, connection = self._context.catalog, self._engine.connection
        if catalog.get_dataset(target.project, target.dataset) is None:
            raise ApiError("notFound", f"Not found: Dataset {target.project}:{target.dataset}")
        existing = catalog.get_table(target.project, target.dataset, target.table)
        write = job.settings.get("writeDisposition", "WRITE_EMPTY")
        self._updates.take(target)
        if existing is None and job.settings.get("createDisposition") == "CREATE_NEVER":
            raise ApiError("notFound", f"Not found: Table {target}")
        with self._engine.writing():
            if existing is not None and existing.num_rows and write == "WRITE_EMPTY":
                raise ApiError("duplicate", f"Already Exists: Table {target}")
            connection.register("emulator_rows", job.rows)
            try:
                if existing is None or write != "WRITE_APPEND":
                    self._engine.execute(
                        f"CREATE OR REPLACE TABLE {target.quoted} AS SELECT * FROM emulator_rows"
                    )
                else:
                    self._engine.execute(
                        f"INSERT INTO {target.quoted} BY NAME SELECT * FROM emulator_rows"
                    )
            finally:
                connection.unregister("emulator_rows")
            if existing is None:
                enter(self._context, target)

    def _define(self, job: Job, definition: Definition) -> None:
        """Make a table, or replace it: rows, columns and what is said of them."""
        target, catalog = definition.target, self._context.catalog
        if catalog.get_dataset(target.project, target.dataset) is None:
            raise ApiError("notFound", f"Not found: Dataset {target.project}:{target.dataset}")
        definition.check(catalog.get_table(target.project, target.dataset, target.table))
        sql, values = self._translated(job, definition.select)
        columns = ", ".join(f"{quote_name(n)} {t}" for n, t in types_of(definition.fields))
        self._engine.execute("BEGIN TRANSACTION")
        try:
            self._engine.execute(f"CREATE OR REPLACE TABLE {target.quoted} ({columns})")
            self._engine.execute(f"INSERT INTO {target.quoted} {sql}", values)
            if ranges := definition.partitioning:
                buckets = f"SELECT count(DISTINCT {partitioning.bucket_of(ranges)})"
                found = self._engine.connection.execute(f"{buckets} FROM {target.quoted}")
                partitioning.check_written(int((found.fetchone() or (0,))[0]))
            self._engine.execute("COMMIT")
        except (duckdb.InterruptException, ApiError):
            self._engine.execute("ROLLBACK")
            raise
        except duckdb.Error as error:
            self._engine.execute("ROLLBACK")
            raise _in_bigquery_words(error, sql) from error
        if catalog.get_table(target.project, target.dataset, target.table) is None:
            enter(self._context, target)
        meta = catalog.get_table(target.project, target.dataset, target.table)
        assert meta is not None
        expires = self._catalog.inherited(target)
        catalog.update_table(touched(meta, **definition.changes, expiration_time=expires))

    def _export(self, job: Job, sql: str) -> None:
        export = parse_export(sql)
        source = self._source(job, export.select)
        try:
            self._exporter.export(job, export, source)
        except duckdb.InterruptException:
            raise
        except duckdb.Error as error:
            raise _in_bigquery_words(error, source.sql) from error
        job.rows, job.schema = None, []

    def _source(self, job: Job, select: str) -> Source:
        sql, parameters = self._translated(job, select)
        try:
            source = Source.of(self._engine.connection, sql, parameters)
            return replace(
                source,
                names=column_names(select, source.names),
                seed=None if is_ordered(select) else job.id,
            )
        except duckdb.InterruptException:
            raise
        except duckdb.Error as error:
            raise _in_bigquery_words(error, sql) from error

    def _translated(self, job: Job, select: str) -> tuple[str, list[Any]]:
        """A SELECT of BigQuery as one of DuckDB with its parameters."""
        translated = asyncio.run(
            inner_query.rewrite_and_translate_statement(
                select,
                project_id=job.project,
                ctx=self._context,
                caller=_CALLER,
                translator=self._translator,
            )
        )
        qualified = rewrite_table_refs(translated, job.project)
        sql, values = bind_parameters(qualified, job.settings.get("queryParameters"))
        return sql, values

    def _note(self, job: Job, cost: Cost) -> None:
        processed = str(cost.processed)
        job.statistics["totalBytesProcessed"] = processed
        job.statistics["query"] = {
            "totalBytesProcessed": processed,
            "totalBytesBilled": str(cost.billed),
            "totalBytesProcessedAccuracy": "PRECISE",
            "cacheHit": False,
            "statementType": job.statement_type,
            "billingTier": 1,
            "referencedTables": [
                {"projectId": name.project, "datasetId": name.dataset, "tableId": name.table}
                for name in read_by(self._catalog, job.project, self.sql_of(job))
            ][:_MOST_REFERENCES],
        }

    def _limit(self, job: Job, cost: Cost) -> None:
        limit = job.settings.get("maximumBytesBilled")
        if limit is not None and cost.most_billed > int(limit):
            raise ApiError(
                "bytesBilledLimitExceeded",
                f"Query exceeded limit for bytes billed: {int(limit)}. "
                f"{cost.most_billed} or higher required.",
            )


def _in_bigquery_words(error: duckdb.Error, sql: str) -> ApiError:
    known = translate_runtime_error(error, duckdb_sql=sql)
    if isinstance(known, DomainError):
        return ApiError.of(known)
    return ApiError("invalidQuery", str(error), location="query")

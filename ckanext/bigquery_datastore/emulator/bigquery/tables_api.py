"""``tables`` of BigQuery's API: get, list, insert, patch, update, delete; and datasets.delete.

bqemulator's own handlers store a changed schema without changing the table, make a table
of a view, ignore ``If-Match`` and word their errors in their own way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from bqemulator.api.routes.tables import (
    _rest_to_clustering,
    _rest_to_time_partitioning,
    _table_to_list_item,
    _table_to_rest,
)
from bqemulator.catalog.etag import generate_etag
from bqemulator.catalog.models import TableFieldSchema, TableMeta, TableSchema
from bqemulator.jobs.executor import execute_query_job
from bqemulator.storage.type_map import bq_schema_to_duckdb_columns
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..errors import ApiError
from ..identities import of_request
from . import partitioning, tabledata
from .access import Access
from .billing import Meter
from .engine import TableName, quote_name
from .names import check_names
from .runtime import Runtime
from .tables import fields_of, now, rest_field, touched

_DATASET = "/bigquery/v2/projects/{project}/datasets/{dataset}"
_TABLES = f"{_DATASET}/tables"
_PAGE = 1000
_ANONYMOUS = "_bqemu_anonymous"


class Tables:
    """The handlers over one runtime. ``extras`` are merged into what tables.get shows."""

    def __init__(
        self,
        runtime: Runtime,
        read_json: Callable[[Request], Any],
        meter: Meter,
        access: Access,
    ) -> None:
        self._runtime = runtime
        self._access = access
        self._meter = meter
        self._context = runtime.context
        self._read_json = read_json
        self.extras: dict[tuple[str, str, str], dict[str, Any]] = {}

    def routes(self) -> list[Route]:
        """The routes that are answered here."""
        return [
            Route(_TABLES, self._list, methods=["GET"]),
            Route(_TABLES, self._insert, methods=["POST"]),
            Route(f"{_TABLES}/{{table}}", self._get, methods=["GET"]),
            Route(f"{_TABLES}/{{table}}", self._patch, methods=["PATCH", "PUT"]),
            Route(f"{_TABLES}/{{table}}", self._delete, methods=["DELETE"]),
            Route(f"{_TABLES}/{{table}}/data", self._rows, methods=["GET"]),
        ]

    # -- reading ---------------------------------------------------------------------------

    def _require_dataset(self, project: str, dataset: str) -> None:
        if self._context.catalog.get_dataset(project, dataset) is None:
            raise ApiError("notFound", f"Not found: Dataset {project}:{dataset}")

    def _meta(self, name: TableName) -> TableMeta:
        self._require_dataset(name.project, name.dataset)
        found = self._context.catalog.get_table(name.project, name.dataset, name.table)
        if found is None:
            raise ApiError("notFound", f"Not found: Table {name}")
        return found

    def _shown(self, meta: TableMeta) -> dict[str, Any]:
        body = _table_to_rest(meta)
        dataset = self._context.catalog.get_dataset(meta.project_id, meta.dataset_id)
        body["location"] = dataset.location if dataset is not None else "US"
        body["schema"] = {"fields": [rest_field(field) for field in meta.schema_.fields]}
        for name in ("numBytes", "numActiveLogicalBytes", "numTotalLogicalBytes"):
            body[name] = str(self._meter.scaled(meta.num_bytes))
        if (ranges := meta.range_partitioning) is not None:
            body["rangePartitioning"] = partitioning.as_rest(ranges)
        if meta.view_query:
            body["view"] = {"query": meta.view_query, "useLegacySql": False}
            for name in ("numRows", "numBytes", "numActiveLogicalBytes", "numTotalLogicalBytes"):
                body.pop(name, None)
        if meta.expiration_time is not None:
            body["expirationTime"] = str(int(meta.expiration_time.timestamp() * 1000))
        return body | self.extras.get((meta.project_id, meta.dataset_id, meta.table_id), {})

    async def _get(self, request: Request) -> Response:
        name = _name(request)
        if name.dataset == _ANONYMOUS:
            answer = await self._runtime.call(dict(request.scope), b"")
            return Response(answer.body, answer.status, media_type="application/json")
        meta = self._meta(name)
        self._access.check_table(of_request(request.scope), name)
        return JSONResponse(self._shown(meta))

    async def _rows(self, request: Request) -> Response:
        name, query = _name(request), dict(request.query_params)
        if name.dataset == _ANONYMOUS:
            answer = await self._runtime.call(dict(request.scope), b"")
            return Response(answer.body, answer.status, media_type="application/json")
        self._require_dataset(name.project, name.dataset)
        self._access.check_table(of_request(request.scope), name, "bigquery.tables.getData")
        found = await self._runtime.in_thread(lambda: tabledata.page(self._context, name, query))
        return JSONResponse(found)

    async def _list(self, request: Request) -> Response:
        project, dataset = request.path_params["project"], request.path_params["dataset"]
        self._require_dataset(project, dataset)
        self._access.check_dataset(of_request(request.scope), project, dataset)
        tables = sorted(
            self._context.catalog.list_tables(project, dataset), key=lambda meta: meta.table_id
        )
        first = int(request.query_params.get("pageToken") or 0)
        last = first + int(request.query_params.get("maxResults") or _PAGE)
        body: dict[str, Any] = {"kind": "bigquery#tableList", "totalItems": len(tables)}
        body["tables"] = [_table_to_list_item(meta) for meta in tables[first:last]]
        if last < len(tables):
            body["nextPageToken"] = str(last)
        return JSONResponse(body)

    # -- writing ---------------------------------------------------------------------------

    async def _insert(self, request: Request) -> Response:
        project, dataset = request.path_params["project"], request.path_params["dataset"]
        body = await self._read_json(request)
        table = (body.get("tableReference") or {}).get("tableId", "")
        if not table:
            raise ApiError("required", "Required parameter is missing: tableId")
        name = TableName(project, dataset, table)
        if view := (body.get("view") or {}).get("query"):
            self._access.check_view(of_request(request.scope), name, view)
        await self._runtime.in_thread(lambda: self._create(name, body))
        return JSONResponse(self._shown(self._meta(name)))

    def _create(self, name: TableName, body: dict[str, Any]) -> None:
        self._require_dataset(name.project, name.dataset)
        catalog, engine = self._context.catalog, self._context.engine
        with self._runtime.engine.writing():
            if catalog.get_table(name.project, name.dataset, name.table) is not None:
                raise ApiError("duplicate", f"Already Exists: Table {name}")
            self._runtime.updates.take(name)
            if view := (body.get("view") or {}).get("query"):
                self._create_view(name, view)
                self._describe(name, body)
                return
            fields = _fields(body)
            columns = [f"{quote_name(n)} {t}" for n, t in _types(fields)]
            engine.execute(
                f"CREATE TABLE {name.quoted} ({', '.join(columns) or '__placeholder INTEGER'})"
            )
            moment = now()
            catalog.create_table(
                TableMeta(
                    project_id=name.project,
                    dataset_id=name.dataset,
                    table_id=name.table,
                    schema=TableSchema(fields=fields),
                    friendly_name=body.get("friendlyName"),
                    description=body.get("description"),
                    labels=body.get("labels") or {},
                    time_partitioning=_rest_to_time_partitioning(
                        body.get("timePartitioning"), None
                    ),
                    range_partitioning=partitioning.of_rest(body.get("rangePartitioning"), fields),
                    clustering=_rest_to_clustering(body.get("clustering"), None),
                    expiration_time=_moment(body.get("expirationTime")),
                    creation_time=moment,
                    last_modified_time=moment,
                    etag=generate_etag(name.project, name.dataset, name.table, str(moment)),
                )
            )

    def _create_view(self, name: TableName, query: str) -> None:
        sql = f"CREATE VIEW `{name.project}`.`{name.dataset}`.`{name.table}` AS {query}"
        asyncio.run(execute_query_job(name.project, "view", sql, None, self._context))

    def _describe(self, name: TableName, body: dict[str, Any]) -> None:
        meta = self._context.catalog.get_table(name.project, name.dataset, name.table)
        if meta is not None:
            self._context.catalog.update_table(
                touched(
                    meta,
                    description=body.get("description"),
                    friendly_name=body.get("friendlyName"),
                    labels=body.get("labels") or {},
                    expiration_time=_moment(body.get("expirationTime")) or meta.expiration_time,
                )
            )

    async def _patch(self, request: Request) -> Response:
        name, body = _name(request), await self._read_json(request)
        wanted = request.headers.get("if-match")
        whole = request.method == "PUT"
        await self._runtime.in_thread(lambda: self._change(name, body, wanted, whole))
        return JSONResponse(self._shown(self._meta(name)))

    def _change(self, name: TableName, body: dict[str, Any], etag: str | None, whole: bool) -> None:
        """Apply a patch, or with ``whole`` an update: what it leaves out is then taken away."""
        with self._runtime.engine.writing():
            meta = self._meta(name)
            if meta.view_query:
                self._access.forget_view(name)
            if etag not in (None, "*", meta.etag):
                raise ApiError("conditionNotMet", "Precondition check failed.", status=412)
            self._runtime.updates.take(name)
            if view := (body.get("view") or {}).get("query"):
                self._context.engine.execute(f"DROP VIEW IF EXISTS {name.quoted}")
                self._create_view(name, view)
                meta = self._meta(name)
            changes: dict[str, Any] = {}
            for key, attribute in (("description",) * 2, ("friendlyName", "friendly_name")):
                if key in body or whole:
                    changes[attribute] = body.get(key)
            if "labels" in body or whole:
                labels = {} if whole else dict(meta.labels)
                labels.update(body.get("labels") or {})
                changes["labels"] = {k: v for k, v in labels.items() if v is not None}
            if "expirationTime" in body or whole:
                changes["expiration_time"] = _moment(body.get("expirationTime"))
            if "clustering" in body or whole:
                changes["clustering"] = _rest_to_clustering(body.get("clustering"), None)
            if (body.get("schema") or {}).get("fields") and meta.table_type == "TABLE":
                changes["schema"] = self._changed_schema(name, meta, _fields(body))
            elif (body.get("schema") or {}).get("fields"):
                changes["schema"] = _described(meta.schema_, _fields(body))
            self._context.catalog.update_table(touched(meta, **changes))

    def _changed_schema(
        self, name: TableName, meta: TableMeta, fields: tuple[TableFieldSchema, ...]
    ) -> TableSchema:
        """The new schema, its new columns added to the table. Nothing may vanish or change type."""
        wanted = {field.name.lower(): field for field in fields}
        present = {field.name.lower(): field for field in meta.schema_.fields}
        mismatch = f"Provided Schema does not match Table {name}."
        for key, field in present.items():
            if key not in wanted:
                raise ApiError("invalid", f"{mismatch} Field {field.name} is missing in new schema")
            old, new = _types((field,))[0][1], _types((wanted[key],))[0][1]
            if old != new:
                raise ApiError(
                    "invalid",
                    f"{mismatch} Field {field.name} has changed type from {field.type} to "
                    f"{wanted[key].type}",
                )
        added = tuple(field for field in fields if field.name.lower() not in present)
        for column, kind in _types(added):
            self._context.engine.execute(
                f"ALTER TABLE {name.quoted} ADD COLUMN {quote_name(column)} {kind}"
            )
        if added and not present:
            self._context.engine.execute(
                f"ALTER TABLE {name.quoted} DROP COLUMN IF EXISTS __placeholder"
            )
        return TableSchema(fields=fields)

    async def _delete(self, request: Request) -> Response:
        name = _name(request)
        await self._runtime.in_thread(lambda: self._drop(name))
        return Response(status_code=204)

    def expire(self) -> None:
        """Drop what has expired: BigQuery deletes it, and its rows."""
        for meta in self._runtime.catalog.expired():
            self._remove(meta)

    def _drop(self, name: TableName) -> None:
        self._remove(self._meta(name))

    def _remove(self, meta: TableMeta) -> None:
        name = TableName(meta.project_id, meta.dataset_id, meta.table_id)
        with self._runtime.engine.writing():
            kind = "VIEW" if meta.table_type == "VIEW" else "TABLE"
            self._context.engine.execute(f"DROP {kind} IF EXISTS {name.quoted}")
            self._context.catalog.delete_table(
                name.project, name.dataset, name.table, not_found_ok=True
            )
            self._context.catalog.delete_materialized_view(
                name.project, name.dataset, name.table, not_found_ok=True
            )
            self._access.forget_view(name)
        self.extras.pop((name.project, name.dataset, name.table), None)


def _name(request: Request) -> TableName:
    given = request.path_params
    return TableName(given["project"], given["dataset"], given["table"])


def _fields(body: dict[str, Any]) -> tuple[TableFieldSchema, ...]:
    fields = fields_of((body.get("schema") or {}).get("fields") or [])
    check_names(fields)
    return fields


def _described(known: TableSchema, given: tuple[TableFieldSchema, ...]) -> TableSchema:
    texts = {field.name: field.description for field in given}
    return TableSchema(
        fields=tuple(
            field.model_copy(update={"description": texts.get(field.name, field.description)})
            for field in known.fields
        )
    )


def _types(fields: tuple[TableFieldSchema, ...]) -> list[tuple[str, str]]:
    return bq_schema_to_duckdb_columns([rest_field(field) for field in fields])


def _moment(milliseconds: Any) -> datetime | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(int(milliseconds) / 1000, tz=timezone.utc)

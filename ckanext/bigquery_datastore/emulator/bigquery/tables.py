"""Tables whose ``lastModifiedTime``, ``numRows``, ``numBytes`` and schema follow every change.

bqemulator leaves all four as they were after DML and ALTER TABLE. ``refresh`` runs
for each table that a session wrote to, before the change is reported as done.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from typing import Any

from bqemulator.api.dependencies import AppContext
from bqemulator.api.routes.tables import _field_to_rest, _parse_schema_fields
from bqemulator.catalog.etag import generate_etag
from bqemulator.catalog.models import TableFieldSchema, TableMeta, TableSchema
from bqemulator.storage.type_map import duckdb_type_to_bq_field

from .engine import TableName, quote_text
from .sizes import table_size

_clock_lock = threading.Lock()


def now() -> datetime:
    """This moment, in UTC and whole milliseconds."""
    moment = datetime.now(timezone.utc)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def later_than(last: datetime) -> datetime:
    """This moment, but at least a millisecond after ``last``: no two changes share a time."""
    return max(now(), last + timedelta(milliseconds=1))


def stored_columns(context: AppContext, name: TableName) -> list[tuple[str, str]]:
    """Name and DuckDB type of the columns as stored; empty where there is no such table."""
    return context.engine.connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() "
        f"WHERE schema_name = {quote_text(f'{name.project}__{name.dataset}')} "
        f"AND table_name = {quote_text(name.table)} ORDER BY column_index"
    ).fetchall()


def field_of(column: str, stored_type: str) -> TableFieldSchema:
    """The BigQuery field for a column of DuckDB."""
    if stored_type.startswith("DECIMAL(38,18)"):
        mode = "REPEATED" if stored_type.endswith("[]") else "NULLABLE"
        return TableFieldSchema(name=column, type="BIGNUMERIC", mode=mode)
    return _parse_schema_fields([duckdb_type_to_bq_field(column, stored_type)])[0]


rest_field = _field_to_rest  # a field as answers show it
_WIRE = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}


def fields_of(given: list[dict[str, Any]]) -> tuple[TableFieldSchema, ...]:
    """The fields of a request's schema, their types by the names that answers use."""
    return tuple(_wired(field) for field in _parse_schema_fields(given))


def _wired(field: TableFieldSchema) -> TableFieldSchema:
    kind = field.type.upper()
    return field.model_copy(
        update={
            "type": _WIRE.get(kind, kind),
            "mode": field.mode.upper(),
            "fields": tuple(_wired(part) for part in field.fields),
        }
    )


def _same_shape(one: TableFieldSchema, other: TableFieldSchema) -> bool:
    """Whether two fields hold the same values, whatever is said about them."""
    return (
        one.type == other.type
        and (one.mode == "REPEATED") == (other.mode == "REPEATED")
        and len(one.fields) == len(other.fields)
        and all(_same_shape(*pair) for pair in zip(one.fields, other.fields, strict=True))
    )


def _is_what_is_stored(field: TableFieldSchema, stored_type: str) -> bool:
    if field.type == "RANGE":
        return stored_type.startswith("STRUCT(")
    return _same_shape(_wired(field_of(field.name, stored_type)), _wired(field))


def schema_of(columns: list[tuple[str, str]], known: TableSchema) -> TableSchema:
    """The schema as stored; what is known of a column (description, mode) stays."""
    by_name = {field.name: field for field in known.fields}
    fields = []
    for column, stored_type in columns:
        field = by_name.get(column)
        if field is None or not _is_what_is_stored(field, stored_type):
            field = field_of(column, stored_type)
        fields.append(field)
    return TableSchema(fields=tuple(fields))


def refresh(context: AppContext, name: TableName) -> None:
    """Bring the catalogue's entry of a changed table up to what is stored."""
    with _clock_lock:
        meta = context.catalog.get_table(name.project, name.dataset, name.table)
        if meta is None or meta.table_type == "VIEW":
            return
        columns = stored_columns(context, name)
        if not columns:
            context.catalog.delete_table(name.project, name.dataset, name.table, not_found_ok=True)
            return
        schema = meta.schema_ if _is_empty(columns) else schema_of(columns, meta.schema_)
        rows, size = 0, 0
        if schema.fields:
            found = context.engine.connection.execute(table_size(schema.fields, name.quoted))
            rows, size = (int(value) for value in found.fetchone() or (0, 0))
        context.catalog.update_table(touched(meta, schema=schema, num_rows=rows, num_bytes=size))


def enter(context: AppContext, name: TableName) -> None:
    """Tell the catalogue of a table that is stored and new; its schema and counts follow."""
    moment = now()
    context.catalog.create_table(
        TableMeta(
            project_id=name.project,
            dataset_id=name.dataset,
            table_id=name.table,
            creation_time=moment,
            last_modified_time=moment,
            etag=generate_etag(name.project, name.dataset, name.table, str(moment)),
        )
    )


def touched(meta: TableMeta, **changes: object) -> TableMeta:
    """``meta`` with ``changes``, modified a little later than before."""
    moment = later_than(meta.last_modified_time)
    if "schema" in changes:
        changes["schema_"] = changes.pop("schema")
    etag = generate_etag(meta.project_id, meta.dataset_id, meta.table_id, str(moment))
    return meta.model_copy(update={**changes, "last_modified_time": moment, "etag": etag})


def _is_empty(columns: list[tuple[str, str]]) -> bool:
    """bqemulator stores a table without columns as one placeholder column."""
    return [column for column, _ in columns] == ["__placeholder"]

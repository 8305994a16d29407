"""How a load job reads its files: the job's options, and the SQL that gives typed rows.

A CSV cell or JSON value is read as text and cast column by column, as BigQuery's pages
"Loading CSV data" and "Loading JSON data" say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from bqemulator.catalog.models import TableFieldSchema
from bqemulator.storage.type_map import bq_schema_to_duckdb_columns

from ..errors import ApiError
from .engine import TableName, quote_name, quote_text
from .tables import field_of, fields_of, rest_field


@dataclass(frozen=True)
class LoadOptions:
    """``configuration.load``, read."""

    target: TableName
    uris: list[str]
    format: str
    fields: tuple[TableFieldSchema, ...]
    autodetect: bool
    write: str
    create: str
    delimiter: str
    quote: str
    null_marker: str
    skip_rows: int | None
    quoted_newlines: bool
    jagged_rows: bool
    ignore_unknown: bool
    max_bad: int
    schema_update: tuple[str, ...]

    @classmethod
    def of(cls, project: str, load: dict[str, Any]) -> LoadOptions:
        """Read the configuration; unset options are BigQuery's defaults."""
        table = load.get("destinationTable") or {}
        if not table.get("datasetId") or not table.get("tableId"):
            raise ApiError("required", "Required parameter is missing: destinationTable")
        skip = load.get("skipLeadingRows")
        return cls(
            target=TableName(
                table.get("projectId") or project, table["datasetId"], table["tableId"]
            ),
            uris=list(load.get("sourceUris") or []),
            format=load.get("sourceFormat", "CSV").upper(),
            fields=fields_of((load.get("schema") or {}).get("fields") or []),
            autodetect=bool(load.get("autodetect")),
            write=load.get("writeDisposition", "WRITE_APPEND"),
            create=load.get("createDisposition", "CREATE_IF_NEEDED"),
            delimiter={"tab": "\t", "\\t": "\t"}.get(
                load.get("fieldDelimiter") or ",", load.get("fieldDelimiter") or ","
            ),
            quote=load.get("quote", '"'),
            null_marker=load.get("nullMarker", ""),
            skip_rows=None if skip is None else int(skip),
            quoted_newlines=bool(load.get("allowQuotedNewlines")),
            jagged_rows=bool(load.get("allowJaggedRows")),
            ignore_unknown=bool(load.get("ignoreUnknownValues")),
            max_bad=int(load.get("maxBadRecords") or 0),
            schema_update=tuple(load.get("schemaUpdateOptions") or ()),
        )


def types_of(fields: tuple[TableFieldSchema, ...]) -> list[tuple[str, str]]:
    return bq_schema_to_duckdb_columns([rest_field(field) for field in fields])


def _csv_arguments(options: LoadOptions) -> str:
    return (
        f"delim = {quote_text(options.delimiter)}, quote = {quote_text(options.quote)}, "
        f"escape = {quote_text(options.quote)}, "
        f"nullstr = {quote_text(options.null_marker)}, max_line_size = 104857600, "
        f"null_padding = {str(options.jagged_rows).lower()}, "
        "strict_mode = true, allow_quoted_nulls = false"
    )


def columns_of(connection: duckdb.DuckDBPyConnection, file: Path) -> tuple[TableFieldSchema, ...]:
    """The columns that a Parquet file tells of itself."""
    source = f"read_parquet({quote_text(str(file))})"
    described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    return tuple(field_of(row[0], _BIGQUERY.get(str(row[1]), str(row[1]))) for row in described)


_BIGQUERY: dict[str, str] = {"TIMESTAMP": "TIMESTAMP WITH TIME ZONE", "UUID": "VARCHAR"}


def source_of(file: Path, fields: tuple[TableFieldSchema, ...], options: LoadOptions) -> str:
    """The rows of a CSV or JSON file, each value as text or JSON."""
    path, types = quote_text(str(file)), types_of(fields)
    if options.format != "CSV":
        columns = ", ".join(f"{quote_text(name)}: 'JSON'" for name, _ in types)
        return (
            f"read_json({path}, format = 'newline_delimited', columns = {{{columns}}}, "
            "maximum_object_size = 104857600)"
        )
    columns = ", ".join(f"{quote_text(name)}: 'VARCHAR'" for name, _ in types)
    skip = options.skip_rows or 0
    return (
        f"read_csv({path}, {_csv_arguments(options)}, header = false, auto_detect = false, "
        f"skip = {skip}, columns = {{{columns}}})"
    )


def reading(file: Path, fields: tuple[TableFieldSchema, ...], options: LoadOptions) -> str:
    """SELECT that reads ``file`` as rows of ``fields``."""
    types = types_of(fields)
    if options.format == "PARQUET":
        return f"SELECT {_casts(types)} FROM read_parquet({quote_text(str(file))})"
    read = _from_text if options.format == "CSV" else _from_json
    picked = ", ".join(
        f"{read(quote_name(field.name), field, kind)} AS {quote_name(field.name)}"
        for field, (_, kind) in zip(fields, types, strict=True)
    )
    return f"SELECT {picked} FROM {source_of(file, fields, options)}"


def _casts(types: list[tuple[str, str]]) -> str:
    return ", ".join(f"CAST({quote_name(n)} AS {t}) AS {quote_name(n)}" for n, t in types)


def _from_text(value: str, field: TableFieldSchema, kind: str) -> str:
    """SQL that reads a CSV cell as BigQuery does."""
    if field.type == "STRING":
        return value
    if field.type == "BYTES":
        return f"from_base64({value})"
    if field.type in ("BOOL", "BOOLEAN"):
        return (
            f"CASE WHEN lower({value}) IN ('true', 't', 'yes', 'y', '1') THEN true "
            f"WHEN lower({value}) IN ('false', 'f', 'no', 'n', '0') THEN false "
            f"WHEN {value} IS NULL THEN NULL ELSE error('bool: ' || {value}) END"
        )
    if field.type == "TIMESTAMP":
        return f"CAST(regexp_replace({value}, ' UTC$', '+00') AS {kind})"
    if field.type == "GEOGRAPHY":
        return f"ST_GeomFromText({value})"
    return f"CAST(trim({value}) AS {kind})"


def _from_json(value: str, field: TableFieldSchema, kind: str) -> str:
    """SQL that reads a JSON value as BigQuery does; numbers may come as strings."""
    if field.mode == "REPEATED" or field.type in ("RECORD", "STRUCT"):
        return f"from_json({value}, {quote_text(_json_shape(field))})::{kind}"
    if field.type == "JSON":
        return f"CASE WHEN {value} = 'null'::JSON THEN NULL ELSE {value} END"
    return _from_text(f"({value} ->> '$')", field, kind)


def _json_shape(field: TableFieldSchema) -> str:
    """The structure that DuckDB's ``from_json`` wants for a nested or repeated field."""
    if field.mode == "REPEATED":
        return f"[{_json_shape(field.model_copy(update={'mode': 'NULLABLE'}))}]"
    if field.type in ("RECORD", "STRUCT"):
        parts = (f'"{part.name}": {_json_shape(part)}' for part in field.fields)
        return f"{{{', '.join(parts)}}}"
    return f'"{types_of((field,))[0][1]}"'


def what_is_wrong(
    connection: duckdb.DuckDBPyConnection,
    file: Path,
    fields: tuple[TableFieldSchema, ...],
    options: LoadOptions,
    error: duckdb.Error,
) -> str:
    """Which value in which row of ``file`` cannot be read, in words like BigQuery's."""
    words = str(error)
    if counts := re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", words):
        wanted, found = int(counts[1]), int(counts[2])
        line = re.search(r"Line: (\d+)", words)
        at = f" Row {line[1]}." if line else ""
        if found > wanted:
            return f"Too many values in line.{at} Found {found} column(s) while expected {wanted}."
        return (
            f"CSV table references column position {wanted - 1}, but line contains only "
            f"{found} columns.{at}"
        )
    if options.format == "PARQUET":
        return words.splitlines()[0]
    rows = f"SELECT row_number() OVER () AS place, * FROM {source_of(file, fields, options)}"
    for position, (field, (_, kind)) in enumerate(zip(fields, types_of(fields), strict=True)):
        value = quote_name(field.name)
        read = _from_text if options.format == "CSV" else _from_json
        try:
            found = connection.execute(
                f"SELECT place, CAST({value} AS VARCHAR) FROM ({rows}) WHERE {value} IS NOT NULL "
                f"AND CAST({value} AS VARCHAR) <> 'null' "
                f"AND TRY({read(value, field, kind)}) IS NULL LIMIT 1"
            ).fetchone()
        except duckdb.Error:
            break
        if found:
            row = found[0] + (options.skip_rows or 0)
            return (
                f"Could not parse '{found[1]}' as {_standard(field.type)} for field {field.name} "
                f"(position {position}) in row {row} with message 'Unable to parse'"
            )
    return words.splitlines()[0]


def quoted_newline(file: Path, fields: tuple[TableFieldSchema, ...], options: LoadOptions) -> str:
    """SQL that finds a row with a line end within quotes; empty where those are allowed."""
    if options.format != "CSV" or options.quoted_newlines or not fields:
        return ""
    found = " OR ".join(f"contains({quote_name(field.name)}, chr(10))" for field in fields)
    return f"SELECT 1 FROM {source_of(file, fields, options)} WHERE {found} LIMIT 1"


def _standard(kind: str) -> str:
    return {"INTEGER": "INT64", "FLOAT": "DOUBLE", "BOOLEAN": "BOOL"}.get(kind, kind)

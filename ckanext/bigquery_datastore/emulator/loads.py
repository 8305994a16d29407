"""Load jobs: CSV, newline-delimited JSON and Parquet, all rows or none.

bqemulator's own loader knows none of the CSV options. A file is read into a staging
table with every value as text, cast column by column as BigQuery's page "Loading CSV
data" says, and appended in one transaction: a bad row fails the job, names its place
and leaves the table as it was.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from bqemulator.api.dependencies import AppContext
from bqemulator.api.routes.tables import _field_to_rest, _parse_schema_fields
from bqemulator.catalog.etag import generate_etag
from bqemulator.catalog.models import TableFieldSchema, TableMeta, TableSchema
from bqemulator.storage.type_map import bq_schema_to_duckdb_columns

from .engine import Engine, TableName, quote_name, quote_text
from .errors import ApiError
from .jobs import Job
from .storage_client import StorageClient
from .tables import field_of, now

_GZIP = b"\x1f\x8b"


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
            fields=_parse_schema_fields((load.get("schema") or {}).get("fields") or []),
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


class Loader:
    """Runs load jobs on one engine."""

    def __init__(self, context: AppContext, engine: Engine, storage: StorageClient) -> None:
        self._context = context
        self._engine = engine
        self._storage = storage

    def run(self, job: Job) -> None:
        """Load the job's files. The table changes at the end of the run time, or not at all."""
        options = LoadOptions.of(job.project, job.settings)
        target = options.target
        if self._context.catalog.get_dataset(target.project, target.dataset) is None:
            raise ApiError("notFound", f"Not found: Dataset {target.project}:{target.dataset}")
        with self._files(job, options) as files:
            size = sum(file.stat().st_size for file in files)
            job.wait_until(1)
            with self._engine.writing():
                rows = self._load(files, options)
        job.statistics["load"] = {
            "inputFiles": str(len(files)),
            "inputFileBytes": str(size),
            "outputRows": str(rows),
            "outputBytes": str(size),
            "badRecords": "0",
        }

    @contextmanager
    def _files(self, job: Job, options: LoadOptions) -> Iterator[list[Path]]:
        """The job's files on disk, unpacked: an upload, or fetched from Cloud Storage."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._spool)))
            found = [job.file] if job.file is not None else self._fetch(options.uris, folder)
            yield [_unpacked(file, folder) for file in found]

    @property
    def _spool(self) -> Path:
        spool = Path(self._context.settings.data_dir or ".") / "spool"
        spool.mkdir(parents=True, exist_ok=True)
        return spool

    def _fetch(self, uris: list[str], folder: Path) -> list[Path]:
        files: list[Path] = []
        for uri in uris:
            names = self._storage.matching(uri)
            if not names:
                raise ApiError("notFound", f"Not found: URI {uri}")
            for bucket, name in names:
                file = folder / f"source-{len(files):06d}"
                self._storage.download(bucket, name, file)
                files.append(file)
        return files

    def _load(self, files: list[Path], options: LoadOptions) -> int:
        connection = self._engine.connection
        existing = self._context.catalog.get_table(
            options.target.project, options.target.dataset, options.target.table
        )
        if existing is None and options.create == "CREATE_NEVER":
            raise ApiError("notFound", f"Not found: Table {options.target}")
        if existing is not None and options.write == "WRITE_EMPTY" and existing.num_rows:
            raise ApiError("duplicate", f"Already Exists: Table {options.target}")
        known = existing.schema_.fields if existing is not None else ()
        fields = options.fields or (() if options.write == "WRITE_TRUNCATE" else known)
        if not fields and (known and not options.autodetect and options.format != "PARQUET"):
            fields = known
        if not fields:
            if options.format != "PARQUET" and not options.autodetect:
                raise ApiError("invalid", "No schema specified on job or table.")
            fields = _detected(connection, files, options)
        _check_names(fields)
        select = " UNION ALL ".join(f"({_reading(file, fields, options)})" for file in files)
        replace = existing is None or (
            options.write == "WRITE_TRUNCATE" and _types(fields) != _types(known)
        )
        connection.execute("BEGIN TRANSACTION")
        try:
            if replace:
                columns = ", ".join(f"{quote_name(n)} {t}" for n, t in _types(fields))
                self._engine.execute(f"CREATE OR REPLACE TABLE {options.target.quoted} ({columns})")
            else:
                self._add_new_columns(options, fields, known)
                if options.write == "WRITE_TRUNCATE":
                    self._engine.execute(f"DELETE FROM {options.target.quoted}")
            names = ", ".join(quote_name(field.name) for field in fields)
            found = self._engine.execute(
                f"INSERT INTO {options.target.quoted} ({names}) {select}"
            ).fetchone()
            connection.execute("COMMIT")
        except duckdb.Error as error:
            connection.execute("ROLLBACK")
            raise _bad_file(error, options) from error
        except ApiError:
            connection.execute("ROLLBACK")
            raise
        self._note(options.target, fields, existing, replace)
        return int(found[0]) if found else 0

    def _add_new_columns(
        self,
        options: LoadOptions,
        fields: tuple[TableFieldSchema, ...],
        known: tuple[TableFieldSchema, ...],
    ) -> None:
        present = {field.name.lower() for field in known}
        added = [field for field in fields if field.name.lower() not in present]
        if added and "ALLOW_FIELD_ADDITION" not in options.schema_update:
            raise ApiError(
                "invalid",
                f"Provided Schema does not match Table {options.target}. "
                f"Cannot add fields (field: {added[0].name})",
            )
        for name, kind in _types(tuple(added)):
            self._engine.execute(
                f"ALTER TABLE {options.target.quoted} ADD COLUMN {quote_name(name)} {kind}"
            )

    def _note(
        self,
        target: TableName,
        fields: tuple[TableFieldSchema, ...],
        existing: TableMeta | None,
        replace: bool,
    ) -> None:
        """Tell the catalogue of a new table or schema; the counts follow when the session ends."""
        catalog = self._context.catalog
        moment = now()
        if existing is None:
            etag = generate_etag(target.project, target.dataset, target.table, str(moment))
            catalog.create_table(
                TableMeta(
                    project_id=target.project,
                    dataset_id=target.dataset,
                    table_id=target.table,
                    schema=TableSchema(fields=fields),
                    creation_time=moment,
                    last_modified_time=moment,
                    etag=etag,
                )
            )
        elif replace:
            catalog.update_table(
                existing.model_copy(update={"schema_": TableSchema(fields=fields)})
            )


def _types(fields: tuple[TableFieldSchema, ...]) -> list[tuple[str, str]]:
    return bq_schema_to_duckdb_columns([_field_to_rest(field) for field in fields])


def _check_names(fields: tuple[TableFieldSchema, ...]) -> None:
    seen: set[str] = set()
    for field in fields:
        if field.name.lower() in seen:
            raise ApiError("invalid", f"Duplicate field name: {field.name}")
        seen.add(field.name.lower())


def _unpacked(file: Path, folder: Path) -> Path:
    with file.open("rb") as stream:
        if stream.read(2) != _GZIP:
            return file
    plain = folder / f"{file.name}.plain"
    with gzip.open(file) as packed, plain.open("wb") as stream:
        shutil.copyfileobj(packed, stream, 1 << 20)
    return plain


def _csv_arguments(options: LoadOptions) -> str:
    return (
        f"delim = {quote_text(options.delimiter)}, quote = {quote_text(options.quote)}, "
        f"escape = {quote_text(options.quote)}, "
        f"nullstr = {quote_text(options.null_marker)}, max_line_size = 104857600, "
        f"null_padding = {str(options.jagged_rows).lower()}, "
        "strict_mode = true, allow_quoted_nulls = false"
    )


def _detected(
    connection: duckdb.DuckDBPyConnection, files: list[Path], options: LoadOptions
) -> tuple[TableFieldSchema, ...]:
    """The schema as BigQuery's autodetect would guess it, by DuckDB's."""
    path = quote_text(str(files[0]))
    if options.format == "CSV":
        header = "true" if options.skip_rows is None or options.skip_rows else "false"
        source = (
            f"read_csv({path}, {_csv_arguments(options)}, header = {header}, sample_size = 500)"
        )
    elif options.format == "PARQUET":
        source = f"read_parquet({path})"
    else:
        source = f"read_json({path}, format = 'newline_delimited', sample_size = 500)"
    described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    return tuple(field_of(row[0], _guessed(row[1])) for row in described)


def _guessed(kind: str) -> str:
    return {"TIMESTAMP": "TIMESTAMP WITH TIME ZONE", "UUID": "VARCHAR"}.get(kind, kind)


def _reading(file: Path, fields: tuple[TableFieldSchema, ...], options: LoadOptions) -> str:
    """SELECT that reads ``file`` as rows of ``fields``."""
    path = quote_text(str(file))
    types = _types(fields)
    if options.format == "PARQUET":
        return f"SELECT {_casts(types)} FROM read_parquet({path})"
    if options.format in ("NEWLINE_DELIMITED_JSON", "JSON"):
        columns = ", ".join(f"{quote_text(name)}: 'JSON'" for name, _ in types)
        source = (
            f"read_json({path}, format = 'newline_delimited', columns = {{{columns}}}, "
            "maximum_object_size = 104857600)"
        )
        picked = ", ".join(
            f"{_from_json(quote_name(f.name), f, kind)} AS {quote_name(f.name)}"
            for f, (_, kind) in zip(fields, types, strict=True)
        )
        return f"SELECT {picked} FROM {source}"
    columns = ", ".join(f"{quote_text(name)}: 'VARCHAR'" for name, _ in types)
    skip = options.skip_rows if options.skip_rows is not None else int(options.autodetect)
    source = (
        f"read_csv({path}, {_csv_arguments(options)}, header = false, auto_detect = false, "
        f"skip = {skip}, columns = {{{columns}}})"
    )
    picked = ", ".join(
        f"{_from_text(quote_name(f.name), f, kind)} AS {quote_name(f.name)}"
        for f, (_, kind) in zip(fields, types, strict=True)
    )
    return f"SELECT {picked} FROM {source}"


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
    return f'"{_types((field,))[0][1]}"'


def _bad_file(error: duckdb.Error, options: LoadOptions) -> ApiError:
    first = str(error).strip().splitlines()[0]
    where = options.uris[0] if options.uris else "<uploaded file>"
    return ApiError(
        "invalid",
        f"Error while reading data, error message: {first} File: {where}",
        location=where,
    )

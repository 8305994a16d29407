"""Load jobs: CSV, newline-delimited JSON and Parquet, all rows or none.

bqemulator's own loader knows none of the CSV options. Rows are appended in one
transaction: a bad row fails the job, names its place and leaves the table as it was.
"""

from __future__ import annotations

import gzip
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import duckdb
from bqemulator.catalog.etag import generate_etag
from bqemulator.catalog.models import TableFieldSchema, TableMeta, TableSchema

from ..errors import ApiError
from ..storage.client import StorageClient
from .detection import detected
from .engine import TableName, quote_name
from .job import Job
from .load_reading import (
    LoadOptions,
    columns_of,
    quoted_newline,
    reading,
    types_of,
    what_is_wrong,
)
from .names import check_names
from .runtime import Runtime
from .tables import now

_GZIP = b"\x1f\x8b"


class Loader:
    """Runs load jobs on one engine."""

    def __init__(self, runtime: Runtime, storage: StorageClient) -> None:
        self._context = runtime.context
        self._engine = runtime.engine
        self._updates = runtime.updates
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
                self._updates.take(target)
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
            files = [_unpacked(file, folder) for file in found]
            if options.format == "NEWLINE_DELIMITED_JSON":
                files = [_halved(file, folder) for file in files]
            yield files

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
            try:
                if options.format == "PARQUET":
                    fields = columns_of(connection, files[0])
                else:
                    fields, options = detected(files[0], options)
            except duckdb.InterruptException:
                raise
            except duckdb.Error as error:
                words = what_is_wrong(connection, files[0], (), options, error)
                raise _bad_file(words, options) from error
        check_names(fields)
        for file in files:
            if (sql := quoted_newline(file, fields, options)) and _any(connection, sql):
                raise _bad_file('Error: Missing close quote character (").', options)
        select = " UNION ALL ".join(f"({reading(file, fields, options)})" for file in files)
        replace = existing is None or (
            options.write == "WRITE_TRUNCATE" and types_of(fields) != types_of(known)
        )
        connection.execute("BEGIN TRANSACTION")
        try:
            if replace:
                columns = ", ".join(f"{quote_name(n)} {t}" for n, t in types_of(fields))
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
        except duckdb.InterruptException:
            connection.execute("ROLLBACK")
            raise
        except duckdb.Error as error:
            connection.execute("ROLLBACK")
            words = what_is_wrong(connection, files[0], fields, options, error)
            raise _bad_file(words, options) from error
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
        for name, kind in types_of(tuple(added)):
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


def _unpacked(file: Path, folder: Path) -> Path:
    with file.open("rb") as stream:
        if stream.read(2) != _GZIP:
            return file
    plain = folder / f"{file.name}.plain"
    with gzip.open(file) as packed, plain.open("wb") as stream:
        shutil.copyfileobj(packed, stream, 1 << 20)
    return plain


# An escape of JSON: half a pair of surrogates, or another one.
_ESCAPE = re.compile(rb"\\(?:(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)


def _halved(file: Path, folder: Path) -> Path:
    """The file as BigQuery's reader of JSON sees it: it decodes each half of a pair of surrogates
    alone, to U+FFFD. https://github.com/googleapis/python-bigquery/issues/864
    """
    content = file.read_bytes()
    if b"\\ud" not in content.lower():
        return file
    read = folder / f"{file.name}.halved"
    read.write_bytes(_ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], content))
    return read


def _any(connection: duckdb.DuckDBPyConnection, sql: str) -> bool:
    """Whether there is a row; what cannot be read is reported when it is loaded."""
    try:
        return connection.execute(sql).fetchone() is not None
    except duckdb.Error:
        return False


def _bad_file(words: str, options: LoadOptions) -> ApiError:
    where = options.uris[0] if options.uris else "<uploaded file>"
    return ApiError(
        "invalid", f"Error while reading data, error message: {words} File: {where}", location=where
    )

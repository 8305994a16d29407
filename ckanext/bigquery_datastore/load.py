"""A file becomes a DataStore table by one BigQuery load job.

Rows of CSV and NDJSON are numbered on their way up (``_id`` is the place in the file), in objects
of a few megabytes each: no disk is needed, a broken upload repeats one object, and BigQuery reads
them side by side. The job replaces the table in one step, or does nothing.
https://cloud.google.com/bigquery/docs/batch-loading-data
"""

from __future__ import annotations

import gzip
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from google.api_core import exceptions as gexc
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend.schema import quote_name
from ckanext.bigquery_datastore.dump.storage import Headers, Store
from ckanext.bigquery_datastore.errors import BadRequest

CHUNK_BYTES = 16 * 2**20
ROOT = "loads/"
JOB_SECONDS = 6 * 3600

# Tells how many bytes of the input have been read since it was last called.
Progress = Callable[[int], None]


@dataclass(frozen=True)
class FileFormat:
    """How BigQuery is told to read a file; ``number`` puts ``_id`` into its rows."""

    name: str
    source_format: str
    number: Callable[[IO[bytes]], Iterator[bytes]] | None
    repeats_head: bool = False


def numbered_csv(file: IO[bytes]) -> Iterator[bytes]:
    """The records of a CSV file, a header first, each with its number in front.

    A record ends at a line end outside quotes: quotes are doubled inside a field (RFC 4180), so an
    even count of them means that all are closed. Nothing else in the record is touched.
    """
    record, number = b"", 0
    for line in file:
        record += line
        if record.count(b'"') % 2:
            continue
        if number == 0:
            yield b"_id," + record.removeprefix(b"\xef\xbb\xbf")
            number = 1
        elif record.strip(b"\r\n"):
            yield b"%d,%s" % (number, record if record.endswith(b"\n") else record + b"\n")
            number += 1
        record = b""
    if record:
        raise BadRequest("The file ends inside a quoted field: a closing quote is missing.")


def numbered_ndjson(file: IO[bytes]) -> Iterator[bytes]:
    """The objects of an NDJSON file, each with its number as the first key."""
    number = 0
    for line in file:
        text = line.strip().removeprefix(b"\xef\xbb\xbf")
        if not text:
            continue
        number += 1
        rest = text[1:].lstrip()
        if not text.startswith(b"{"):
            raise BadRequest(f"Line {number} of the file is not a JSON object.")
        yield b'{"_id":%d%s%s\n' % (number, b"" if rest.startswith(b"}") else b",", rest)


FILE_FORMATS = {
    row.name: row
    for row in (
        FileFormat("csv", "CSV", numbered_csv, repeats_head=True),
        FileFormat("ndjson", "NEWLINE_DELIMITED_JSON", numbered_ndjson),
        FileFormat("parquet", "PARQUET", None),
    )
}
_SUFFIXES = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}


def format_of(path: Path) -> FileFormat:
    """The format that a file's name tells, ``.gz`` or not.

    :raises BadRequest: it tells none
    """
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    name = _SUFFIXES.get(suffixes[-1].lower() if suffixes else "")
    if name is None:
        raise BadRequest(
            f"{path.name} does not tell its format. Name it with --format: "
            + ", ".join(FILE_FORMATS)
            + "."
        )
    return FILE_FORMATS[name]


def load(
    client: bigquery.Client,
    store: Store,
    table: bigquery.TableReference,
    path: Path,
    file_format: FileFormat,
    *,
    null: str | None = None,
    types: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    progress: Progress = lambda read: None,
) -> int:
    """Replace the table by the rows of the file; how many rows that were.

    :param null: what stands for a missing value in a CSV file
    :param types: BigQuery types by column name; the others are inferred
    :raises BadRequest: BigQuery does not read the file so; the table is as it was
    """
    folder = f"{ROOT}{uuid.uuid4().hex}/"
    try:
        count = _upload(store, folder, path, file_format, progress)
        if not count:
            raise BadRequest(f"{path.name} has no rows.")
        job_config = _job_config(file_format, null, labels or {})
        uri = f"gs://{store.bucket}/{folder}*"
        if types:
            job_config.schema = _schema(client, table, store, folder, job_config, types)
            job_config.autodetect = False
        if file_format.number:
            _run(client, uri, table, job_config)
        else:
            _load_and_number(client, uri, table, job_config)
    finally:
        store.delete(store.list(folder))
    with clients.told(f"the table {table.table_id}"):
        return client.get_table(table, **clients.budget()).num_rows or 0


def _upload(
    store: Store, folder: str, path: Path, file_format: FileFormat, progress: Progress
) -> int:
    """The file's chunks as objects below the folder; how many."""
    headers = Headers("application/octet-stream")
    with path.open("rb") as raw:
        if not file_format.number:
            store.create(f"{folder}00000001", _opened(raw), headers)
            progress(path.stat().st_size)
            return 1
        read = number = 0
        records = file_format.number(_opened(raw))
        for number, chunk in enumerate(_chunks(records, file_format.repeats_head), 1):
            store.create(f"{folder}{number:08d}", chunk, headers)
            progress(raw.tell() - read)
            read = raw.tell()
    return number


def _opened(raw: IO[bytes]) -> IO[bytes]:
    """The file's content, whether it is gzipped or not."""
    is_gzipped = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    return cast("IO[bytes]", gzip.open(raw)) if is_gzipped else raw


def _chunks(records: Iterator[bytes], repeats_head: bool) -> Iterator[bytes]:
    """The records in pieces that BigQuery can read one by one."""
    head = next(records, b"") if repeats_head else b""
    chunk, size = [head], len(head)
    for record in records:
        chunk.append(record)
        size += len(record)
        if size >= CHUNK_BYTES:
            yield b"".join(chunk)
            chunk, size = [head], len(head)
    if len(chunk) > 1:
        yield b"".join(chunk)


def _job_config(
    file_format: FileFormat, null: str | None, labels: Mapping[str, str]
) -> bigquery.LoadJobConfig:
    job_config = bigquery.LoadJobConfig(
        source_format=file_format.source_format,
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        autodetect=file_format.number is not None,
        labels=dict(labels),
    )
    if file_format.name == "csv":
        job_config.skip_leading_rows = 1
        job_config.allow_quoted_newlines = True
        job_config.null_marker = null or ""
    return job_config


def _schema(
    client: bigquery.Client,
    table: bigquery.TableReference,
    store: Store,
    folder: str,
    job_config: bigquery.LoadJobConfig,
    types: Mapping[str, str],
) -> list[bigquery.SchemaField]:
    """What BigQuery infers from the first chunk, with the given types in their places."""
    trial = _beside(table)
    try:
        _run(client, f"gs://{store.bucket}/{folder}00000001", trial, job_config)
        with clients.told("the inferred columns"):
            inferred = client.get_table(trial, **clients.budget()).schema
    finally:
        client.delete_table(trial, not_found_ok=True, **clients.budget())
    unknown = set(types) - {field.name for field in inferred}
    if unknown:
        raise BadRequest(f"The file has no column {', '.join(sorted(unknown))}.")
    return [
        bigquery.SchemaField(field.name, types.get(field.name, field.field_type), field.mode)
        for field in inferred
    ]


def _load_and_number(
    client: bigquery.Client,
    uri: str,
    table: bigquery.TableReference,
    job_config: bigquery.LoadJobConfig,
) -> None:
    """Load beside the table, then replace it by the numbered rows."""
    beside = _beside(table)
    name = quote_name(f"{table.project}.{table.dataset_id}.{table.table_id}")
    source = quote_name(f"{beside.project}.{beside.dataset_id}.{beside.table_id}")
    try:
        _run(client, uri, beside, job_config)
        with clients.told("the numbering of rows", gexc.BadRequest):
            client.query(
                f"CREATE OR REPLACE TABLE {name} AS "
                f"SELECT ROW_NUMBER() OVER () AS _id, * FROM {source}",
                **clients.budget(),
            ).result(timeout=JOB_SECONDS)
    finally:
        client.delete_table(beside, not_found_ok=True, **clients.budget())


def _beside(table: bigquery.TableReference) -> bigquery.TableReference:
    """A name in the same dataset that nobody has."""
    dataset = bigquery.DatasetReference(table.project, table.dataset_id)
    return dataset.table(f"_load_{uuid.uuid4().hex}")


def _run(
    client: bigquery.Client,
    uri: str,
    table: bigquery.TableReference,
    job_config: bigquery.LoadJobConfig,
) -> None:
    try:
        with clients.told("loading the file", gexc.BadRequest, gexc.NotFound):
            job = client.load_table_from_uri(uri, table, job_config=job_config, **clients.budget())
            job.result(timeout=JOB_SECONDS)
    except (gexc.BadRequest, gexc.NotFound) as err:
        raise BadRequest(f"BigQuery cannot load the file: {_first_reason(err)}") from err


def _first_reason(err: gexc.GoogleAPICallError) -> str:
    messages = [error.get("message") for error in err.errors or () if isinstance(error, dict)]
    return next(filter(None, messages), err.message)

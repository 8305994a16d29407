"""A file becomes a DataStore table, in one step, or nothing does.

Rows of CSV and NDJSON are numbered on their way up (``_id`` is the place in the file), in objects
of a few megabytes each: no disk is needed, a broken upload repeats one object, and BigQuery reads
them side by side (https://cloud.google.com/bigquery/docs/batch-loading-data). A load job puts them
into a table beside the resource's own, where one query tells what the columns of a CSV are, and
whether each text fits its column. Only then the table's writers are asked to wait, and one
statement replaces it, its rows and its columns, with the metadata that it keeps.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.api_core import exceptions as gexc
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend import job, query
from ckanext.bigquery_datastore.backend.table.lookup import ID, get_table, quote_name, reference
from ckanext.bigquery_datastore.backend.table.types import Type
from ckanext.bigquery_datastore.backend.write import lock, numbers, replace
from ckanext.bigquery_datastore.dump.objects import Headers, StoredObject
from ckanext.bigquery_datastore.dump.storage import Store
from ckanext.bigquery_datastore.errors import BadRequest
from ckanext.bigquery_datastore.load import columns, texts
from ckanext.bigquery_datastore.load.columns import Staged
from ckanext.bigquery_datastore.load.files import (
    FILE_FORMATS,
    ROW,
    FileFormat,
    Met,
    check_names,
    chunks,
    format_of,
    known_encoding,
    opened,
)

__all__ = ["FILE_FORMATS", "FileFormat", "format_of", "load", "sweep"]

ROOT = "loads/"
STAGING_PREFIX = "_load_"
JOB_SECONDS = 6 * 3600

# A load has at most two jobs and two statements of six hours after its last object.
LOAD_LIFETIME = dt.timedelta(hours=24)

# Tells how many bytes of the input have been read since it was last called.
Progress = Callable[[int], None]


class Unreadable(Exception):
    """BigQuery's own words for what is wrong with a file."""


def load(
    client: bigquery.Client,
    store: Store,
    id: str,
    path: Path,
    file_format: FileFormat,
    *,
    null: str | None = None,
    encoding: str | None = None,
    types: Mapping[str, Type] | None = None,
    labels: Mapping[str, str] | None = None,
    progress: Progress = lambda read: None,
) -> int:
    """Replace the resource's table by the rows of the file; how many rows that were.

    :param null: what stands for a missing value in a CSV file
    :param encoding: of a CSV or NDJSON file that is not in UTF-8
    :param types: types by column name; a column that the table has already keeps its type, and
        those of the others are inferred from all rows
    :raises BadRequest: the file cannot be read so, or has not what the table's key needs; the
        table is as it was
    """
    sweep(client, store)
    folder = f"{ROOT}{uuid.uuid4().hex}/"
    met = Met()
    config = _job_config(file_format, null, labels or {})
    source = f"gs://{store.bucket}/{folder}"
    try:
        count = _upload(store, folder, path, file_format, encoding, met, progress)
        if not count:
            raise BadRequest(f"{path.name} has no rows. Nothing is replaced.")
        with _table_beside(client) as staging:
            staged = _staged(
                client, id, f"{source}*", staging, config, file_format, met, types or {}
            )
            number = quote_name(ROW) if file_format.number else "ROW_NUMBER() OVER ()"
            return _replace(client, id, path.name, staging, staged, number)
    except Unreadable as err:
        raise BadRequest(
            f"BigQuery cannot load the file: {columns.in_words(str(err), met.names)}. Nothing is "
            "replaced. The option --type COLUMN=TYPE gives a column another type."
        ) from err
    finally:
        # What is left is swept by a later load.
        with clients.tidied_up(f"gs://{store.bucket}/{folder}"):
            store.delete(store.list(folder))


def sweep(client: bigquery.Client, store: Store) -> int:
    """Delete what loads that were killed have left; how many objects and tables."""
    until = dt.datetime.now(dt.timezone.utc) - LOAD_LIFETIME
    folders: dict[str, list[StoredObject]] = {}
    for found in store.list(ROOT):
        folders.setdefault(found.name.split("/")[1], []).append(found)
    deleted = sum(
        store.delete(objects)
        for objects in folders.values()
        if max(found.created for found in objects) < until
    )
    place = reference(STAGING_PREFIX)
    with clients.told("listing the tables"):
        for item in client.list_tables(
            bigquery.DatasetReference(place.project, place.dataset_id), **clients.budget(30)
        ):
            if item.table_id.startswith(STAGING_PREFIX) and item.created and item.created < until:
                client.delete_table(item.reference, not_found_ok=True, **clients.budget())
                deleted += 1
    return deleted


# --- from the file to a table beside the resource's ---------------------------------------------


def _upload(
    store: Store,
    folder: str,
    path: Path,
    file_format: FileFormat,
    encoding: str | None,
    met: Met,
    progress: Progress,
) -> int:
    """The file's chunks as objects below the folder; how many. Tells what is ``met`` in them."""
    headers = Headers("application/octet-stream")
    with path.open("rb") as raw:
        if not file_format.number:
            if encoding:
                raise BadRequest(f"--encoding is for texts; {path.name} is none.")
            store.create(f"{folder}00000001", opened(raw), headers)
            progress(path.stat().st_size)
            return 1
        read = number = 0
        content = opened(raw, known_encoding(encoding) if encoding else None)
        records = file_format.number(content, met)
        for number, chunk in enumerate(chunks(records, file_format.by_place), 1):
            store.create(f"{folder}{number:08d}", chunk, headers)
            progress(raw.tell() - read)
            read = raw.tell()
    return number


def _job_config(
    file_format: FileFormat, null: str | None, labels: Mapping[str, str]
) -> bigquery.LoadJobConfig:
    job_config = bigquery.LoadJobConfig(
        source_format=file_format.source_format,
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        labels=dict(labels),
    )
    if file_format.name == "csv":
        job_config.skip_leading_rows = 1
        job_config.allow_quoted_newlines = True
        job_config.null_marker = null or ""
    return job_config


def _staged(
    client: bigquery.Client,
    id: str,
    uri: str,
    staging: bigquery.TableReference,
    config: bigquery.LoadJobConfig,
    file_format: FileFormat,
    met: Met,
    given: Mapping[str, Type],
) -> list[Staged]:
    """Load the file into the table beside; its columns, each with the type that is asked for, or
    that the resource's table has, or that all of its values fit."""
    table = get_table(client, id)
    if file_format.number is None:
        _run(client, uri, staging, config)
        fields = _fields(client, staging)
        check_names([field.name for field in fields])
        known = columns.known_types([field.name for field in fields], given, None)
        return columns.converted(fields, known, table)
    known = columns.known_types(met.names, given, table)
    staged = columns.of_texts(met.names) if file_format.by_place else columns.of_objects(met, known)
    config.schema = columns.schema(staged)
    _run(client, uri, staging, config)
    return _typed(client, staging, staged, known) if file_format.by_place else staged


def _typed(
    client: bigquery.Client,
    staging: bigquery.TableReference,
    staged: Sequence[Staged],
    known: Mapping[str, Type],
) -> list[Staged]:
    """The columns of texts with their types, after a look at every text.

    :raises BadRequest: a text is none of the type that its column has
    """
    # Of a text that is to stay one nothing is asked: each column that is read is billed.
    questions = {
        column: texts.first_bad(column.stored, known[column.name])
        if column.name in known
        else texts.kinds(column.stored)
        for column in staged
        if column.name not in known or not texts.is_as_it_stands(known[column.name])
    }
    table = quote_name(f"{staging.project}.{staging.dataset_id}.{staging.table_id}")
    values: list[Any] = []
    for statement in texts.statements(list(questions.values()), table):
        (row,) = query.read(client, statement, seconds=JOB_SECONDS)
        values += row.values()
    answers = dict(zip(questions, values, strict=True))
    for column, answer in answers.items():
        if column.name in known and answer is not None:
            (row,) = query.read(
                client,
                f"SELECT {quote_name(column.stored)} AS v FROM {table} WHERE {ROW} = {answer}",
            )
            type_ = known[column.name]
            wanted = "JSON" if type_.holds_json else type_.native
            raise BadRequest(
                f"Row {answer} of the file: {row['v'][:80]!r} in the column {column.name!r} is no "
                f"{wanted}. Nothing is replaced. The option --type COLUMN=TYPE "
                "gives a column another type."
            )
    return [
        dataclasses.replace(
            column, type=known.get(column.name) or texts.recognised(answers[column])
        )
        for column in staged
    ]


def _fields(
    client: bigquery.Client, table: bigquery.TableReference
) -> Sequence[bigquery.SchemaField]:
    with clients.told("the columns of the file"):
        return client.get_table(table, **clients.budget()).schema


@contextmanager
def _table_beside(client: bigquery.Client) -> Iterator[bigquery.TableReference]:
    """A name in the same dataset that nobody has, for as long as it is needed."""
    table = reference(f"{STAGING_PREFIX}{uuid.uuid4().hex}")
    try:
        yield table
    finally:
        with clients.tidied_up(str(table)):
            client.delete_table(table, not_found_ok=True, **clients.budget())


def _run(
    client: bigquery.Client,
    uri: str,
    table: bigquery.TableReference,
    job_config: bigquery.LoadJobConfig,
) -> None:
    def submit(job_id: str) -> bigquery.LoadJob:
        return client.load_table_from_uri(
            uri, table, job_id=job_id, job_config=job_config, **clients.budget()
        )

    try:
        with clients.told("loading the file", gexc.BadRequest, gexc.NotFound):
            job.succeeded(client, submit, time.monotonic() + JOB_SECONDS)
    except (gexc.BadRequest, gexc.NotFound) as err:
        raise Unreadable(query.message(err).rstrip(".")) from err


# --- from there to the resource's table ---------------------------------------------------------


def _replace(
    client: bigquery.Client,
    id: str,
    file_name: str,
    staging: bigquery.TableReference,
    staged: Sequence[Staged],
    number: str,
) -> int:
    """Put the rows in the table's place, while no one else changes it; how many."""
    with clients.told("the rows of the file"):
        count = client.get_table(staging, **clients.budget()).num_rows or 0
    if not count:
        raise BadRequest(f"{file_name} has no rows. Nothing is replaced.")
    with lock.writing(id) as held:
        before = get_table(client, id)
        wanted = [(column.name, column.type) for column in staged if column.name != ID]
        after = numbers.given(replace.planned(before, id, wanted), count)
        rows = columns.select(after, staging, staged, number)
        try:
            replace.check_key(client, after, rows, JOB_SECONDS)
            held.check()
            replace.replace_table(client, before, after, rows, count, JOB_SECONDS)
        except query.Refused as err:
            raise Unreadable(str(err).rstrip(".")) from err
    return count

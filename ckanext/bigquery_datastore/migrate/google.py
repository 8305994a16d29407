"""BigQuery's side of a migration: rows into a table, rows out of it, sums over them."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from google.api_core import exceptions as gexc
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.backend import job, query
from ckanext.bigquery_datastore.backend.table import definition
from ckanext.bigquery_datastore.backend.table.lookup import get_table, quote_name, reference
from ckanext.bigquery_datastore.backend.table.model import ID, Table
from ckanext.bigquery_datastore.backend.write import lock, numbers, replace
from ckanext.bigquery_datastore.dump.export import statement
from ckanext.bigquery_datastore.dump.objects import Headers, StoredObject
from ckanext.bigquery_datastore.dump.storage import Store
from ckanext.bigquery_datastore.errors import BadRequest
from ckanext.bigquery_datastore.load.attempt import JOB_SECONDS, ROOT
from ckanext.bigquery_datastore.migrate import sums, transit
from ckanext.bigquery_datastore.migrate.rows import PLACE, ROW
from ckanext.bigquery_datastore.migrate.sums import Part, Sum

CHUNK_BYTES = 16 * 2**20


def sum_of(client: bigquery.Client, table: Table, parts: Sequence[Part]) -> Sum:
    """Count and sum of a table's rows. Billed for one scan of it."""
    sql = sums.bq_select(parts, table.sql_name)
    (row,) = query.read(client, sql, seconds=JOB_SECONDS)
    return Sum(int(row["c"]), str(row["s"]))


def groups(
    client: bigquery.Client, table: Table, parts: Sequence[Part], first: int, last: int, width: int
) -> list[tuple[int, int, str]]:
    """As ``rows.groups``."""
    source = f"{table.sql_name} WHERE {quote_name(ID)} BETWEEN {first} AND {last}"
    sql = sums.bq_select(parts, source, f"DIV(n - {first}, {width})")
    rows = query.read(client, sql, seconds=JOB_SECONDS)
    return [(int(row["g"]), int(row["c"]), str(row["s"])) for row in rows]


def texts(
    client: bigquery.Client, table: Table, parts: Sequence[Part], number: int
) -> Sequence[str | None] | None:
    """As ``rows.texts``."""
    source = f"{table.sql_name} WHERE {quote_name(ID)} = {number}"
    rows = query.read(client, sums.bq_texts(parts, source))
    return list(rows[0].values())[1:] if rows else None


def refusals(client: bigquery.Client, table: Table, parts: Sequence[Part]) -> list[str]:
    """Values of a table that PostgreSQL cannot hold. Billed for a scan of such columns."""
    limits = [
        (part, limit, limit.holds(part.bq)) for part in parts for limit in part.kind.bq_limits
    ]
    told = []
    for start in range(0, len(limits), 100):
        some = limits[start : start + 100]
        selected = ", ".join(
            f"MIN(IF({holds}, {quote_name(ID)}, NULL)) AS f{place}, COUNTIF({holds}) AS c{place}"
            for place, (_, _, holds) in enumerate(some)
        )
        sql = f"SELECT {selected} FROM {table.sql_name}"
        (row,) = query.read(client, sql, seconds=JOB_SECONDS)
        told += [
            f"the column {part.pg}, {row[f'c{place}']:,} rows, the first with _id "
            f"{row[f'f{place}']}: {limit.why}"
            for place, (part, limit, _) in enumerate(some)
            if row[f"c{place}"]
        ]
    return told


# --- in ----------------------------------------------------------------------------------------


@contextmanager
def folder(store: Store) -> Iterator[str]:
    """A place in the bucket that is gone afterwards; what a killed process leaves is swept."""
    name = f"{ROOT}{uuid.uuid4().hex}/"
    try:
        yield name
    finally:
        with clients.tidied_up(f"gs://{store.bucket}/{name}"):
            store.delete(store.list(name))


@contextmanager
def staged(client: bigquery.Client, source: str, count: int) -> Iterator[str]:
    """The quoted name of a table beside, with the rows of these objects, all texts.

    :param count: how many columns beside the row's number
    :raises BadRequest: BigQuery cannot load them
    """
    table = reference(f"{replace.ASIDE_PREFIX}{uuid.uuid4().hex}")
    job_config = bigquery.LoadJobConfig(
        source_format="NEWLINE_DELIMITED_JSON",
        schema=[
            bigquery.SchemaField(ROW, "INT64"),
            *(bigquery.SchemaField(f"{PLACE}{n}", "STRING") for n in range(1, count + 1)),
        ],
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        labels=config.job_labels(),
    )

    def submit(job_id: str) -> bigquery.LoadJob:
        return client.load_table_from_uri(
            source, table, job_id=job_id, job_config=job_config, **clients.budget()
        )

    try:
        try:
            with clients.told("loading the rows", gexc.BadRequest, gexc.NotFound):
                job.succeeded(client, submit, time.monotonic() + JOB_SECONDS)
        except (gexc.BadRequest, gexc.NotFound) as err:
            raise BadRequest(f"BigQuery cannot load the rows: {query.message(err)}") from err
        yield quote_name(f"{table.project}.{table.dataset_id}.{table.table_id}")
    finally:
        with clients.tidied_up(str(table)):
            client.delete_table(table, not_found_ok=True, **clients.budget())


def bring(
    client: bigquery.Client,
    store: Store,
    after: Table,
    last_id: int,
    count: int,
    send: Callable[[Callable[[bytes, int], None]], None],
) -> None:
    """Put a table with these rows in the place of the one that is there.

    :param send: calls what it gets with lines of JSON, and with how many, until there are none
    What is there goes beforehand where its columns are others: BigQuery cannot replace it then.

    :raises BigQueryDatastoreError: why it cannot
    """
    columns = after.columns[1:]
    if not count:
        values = ", ".join(f"CAST(NULL AS {column.bq_type})" for column in after.columns)
        _replace(client, after, last_id, 0, f"SELECT {values} FROM (SELECT 1) WHERE FALSE")
        return
    with folder(store) as name:
        sent = 0

        def give(data: bytes, rows: int) -> None:
            nonlocal sent
            sent += 1
            store.create(f"{name}{sent:08d}", data, Headers("application/x-ndjson"))

        send(give)
        with staged(client, f"gs://{store.bucket}/{name}*", len(columns)) as rows:
            values = ", ".join(
                [
                    ROW,
                    *(
                        column.type.from_text(f"{PLACE}{place}")
                        for place, column in enumerate(columns, 1)
                    ),
                ]
            )
            _replace(client, after, last_id, count, f"SELECT {values} FROM {rows}")


def describe(client: bigquery.Client, before: Table, like: Table, last_id: int) -> None:
    """Give a table the data dictionary, key, indexes and aliases of one with the same columns."""
    with lock.writing(before.id):
        stored = {column.name: column for column in like.columns}
        columns = tuple(
            dataclasses.replace(
                column,
                info=stored[column.name].info,
                plugin_data=stored[column.name].plugin_data,
            )
            if column.name in stored
            else column
            for column in before.columns
        )
        after = dataclasses.replace(
            before,
            columns=columns,
            primary_key=like.primary_key,
            indexes=like.indexes,
            aliases=like.aliases,
        )
        definition.change(client, before, numbers.given(after, max(last_id, before.last_id)))
        definition.set_aliases(client, before, like.aliases)


def _replace(client: bigquery.Client, after: Table, last_id: int, count: int, rows: str) -> None:
    with lock.writing(after.id) as held:
        before = get_table(client, after.id)
        held.check()
        if before is not None:
            definition.set_aliases(client, before, after.aliases)
            if not _keeps_place(before, after):
                definition.drop(client, before)
                before = None
        after = numbers.given(after, last_id)
        try:
            replace.replace_table(client, before, after, rows, max(count, last_id), JOB_SECONDS)
        except query.Refused as err:
            raise BadRequest(f"BigQuery cannot make the table: {err}") from err


def _keeps_place(before: Table, after: Table) -> bool:
    """Whether BigQuery can replace one by the other: they need columns to be clustered by alike."""
    had = {column.stored: column.bq_type for column in before.columns}
    return all(had.get(column.stored) == column.bq_type for column in after.columns)


# --- out ---------------------------------------------------------------------------------------


def export(
    client: bigquery.Client, store: Store, name: str, table: Table, parts: Sequence[Part]
) -> list[StoredObject]:
    """Write a table's rows into a folder of the bucket as texts (``transit``)."""
    uri = f"gs://{store.bucket}/{name}part-*.csv"
    sql = statement(
        f"SELECT {', '.join(transit.sent(part) for part in parts)} FROM {table.sql_name}",
        uri,
        {"format": "CSV", "header": False},
    )
    query.write(client, sql, seconds=JOB_SECONDS)
    return [found for found in store.list(name) if found.size]


class Objects:
    """The bytes of objects, one after the other, as a file that is read."""

    def __init__(
        self, store: Store, objects: Sequence[StoredObject], progress: Callable[[int], None]
    ) -> None:
        self._pieces = self._read(store, objects, progress)
        self._held = b""

    @staticmethod
    def _read(
        store: Store, objects: Sequence[StoredObject], progress: Callable[[int], None]
    ) -> Iterator[bytes]:
        for found in objects:
            for first in range(0, found.size, CHUNK_BYTES):
                last = min(first + CHUNK_BYTES, found.size) - 1
                yield store.read_range(found, first, last)
                progress(last - first + 1)

    def read(self, size: int = -1) -> bytes:
        if not self._held:
            self._held = next(self._pieces, b"")
        taken = self._held if size < 0 else self._held[:size]
        self._held = self._held[len(taken) :]
        return taken

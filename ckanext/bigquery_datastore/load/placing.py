"""The last step: the rows into the resource's table, by one statement, under its writers' lock."""

from __future__ import annotations

import time

from google.cloud import bigquery

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend import job, query
from ckanext.bigquery_datastore.backend.table import definition
from ckanext.bigquery_datastore.backend.table.lookup import ID, Column, Table, get_table
from ckanext.bigquery_datastore.backend.write import lock, numbers, outlived, replace
from ckanext.bigquery_datastore.errors import BadRequest
from ckanext.bigquery_datastore.load import columns
from ckanext.bigquery_datastore.load.attempt import JOB_SECONDS, Load
from ckanext.bigquery_datastore.load.columns import Staged
from ckanext.bigquery_datastore.load.faults import Unreadable
from ckanext.bigquery_datastore.load.files import ROW
from ckanext.bigquery_datastore.load.reading import Read
from ckanext.bigquery_datastore.load.typed import Typed


def place(load: Load, read: Read, typed: Typed) -> int:
    """Put the rows where they belong; how many.

    The statement's job has an id that follows from the attempt: who comes after a worker that was
    killed finds it, and waits for it or is content.

    :raises BadRequest: the table cannot take them; it is as it was
    """
    count = _rows(load) - (typed.bad - len(read.bad))
    if count <= 0:
        raise BadRequest(f"{read.file['name']} has no rows. Nothing is replaced.")
    with lock.writing(load.id, mine=load.job("put")) as held:
        if job.has_succeeded(load.client, load.job("put"), time.monotonic() + JOB_SECONDS):
            return count
        before = get_table(load.client, load.id)
        put = _replaced if before is None or load.wish.mode == "replace" else _added
        try:
            put(load, read, typed, before, held)
        except query.Refused as err:
            raise Unreadable(str(err).rstrip(".")) from err
    return count


def _rows(load: Load) -> int:
    with clients.told("the rows of the file"):
        return load.client.get_table(load.staging, **clients.budget()).num_rows or 0


def _number(read: Read) -> str:
    return "ROW_NUMBER() OVER ()" if read.format == "parquet" else ROW


def _replaced(load: Load, read: Read, typed: Typed, before: Table | None, held: lock.Held) -> None:
    wanted = [(column.name, column.type) for column in typed.columns if column.name != ID]
    last = _rows(load)
    after = numbers.given(replace.planned(before, load.id, wanted), last)
    rows = columns.select(
        after.columns, load.staging_sql, typed.columns, _number(read), typed.rejects
    )
    replace.check_key(load.client, after, rows, JOB_SECONDS)
    held.check()
    put = load.job("put")
    with outlived.noted(load.id, put):
        replace.replace_table(load.client, before, after, rows, last, JOB_SECONDS, job_id=put)


def _added(load: Load, read: Read, typed: Typed, before: Table | None, held: lock.Held) -> None:
    """Append the rows, or let those that have the key of another one take its place."""
    assert before is not None
    client = load.client
    if not before.has_id:
        raise BadRequest(f"{load.id} has no column _id, and is not written to.")
    new = [
        definition.Wish(column.name, column.type)
        for column in typed.columns
        if column.name != ID and before.column(column.name) is None
    ]
    wanted = [c for c in before.columns if c.name in {column.name for column in typed.columns}]
    key = [c for c in wanted if c.name in before.primary_key]
    rows = columns.select(wanted, load.staging_sql, typed.columns, _number(read), typed.rejects)
    if key and len(key) == len(before.primary_key):
        replace.check_key(client, before, rows, JOB_SECONDS)
        if load.wish.mode == "upsert":
            _check_key_given(client, key, rows)
        else:
            _check_key_free(client, before, key, rows)
    held.check()
    after = definition.planned(before, load.id, new)
    if new:
        after = definition.change(client, before, after)
    first = numbers.reserve(client, after, _rows(load))
    sql = _insert(load, read, typed, after, first)
    if load.wish.mode == "upsert":
        sql = _merge(load, read, typed, after, first)
    with outlived.noted(load.id, load.job("put")):
        query.write(client, sql, seconds=JOB_SECONDS, job_id=load.job("put"))


def _brought(table: Table, staged: list[Staged]) -> list[Column]:
    names = {column.name for column in staged} - {ID}
    return [column for column in table.columns if column.name in names]


def _insert(load: Load, read: Read, typed: Typed, table: Table, first: int) -> str:
    wanted = [column for column in table.columns if column.name == ID]
    wanted += _brought(table, typed.columns)
    number = f"{first - 1} + {_number(read)}"
    rows = columns.select(wanted, load.staging_sql, typed.columns, number, typed.rejects)
    return f"INSERT INTO {table.sql_name} ({', '.join(c.sql for c in wanted)}) {rows}"


def _merge(load: Load, read: Read, typed: Typed, table: Table, first: int) -> str:
    """Rows of a key that is there keep their ``_id``."""
    wanted = [column for column in table.columns if column.name == ID]
    brought = _brought(table, typed.columns)
    number = f"{first - 1} + {_number(read)}"
    rows = columns.select(
        [*wanted, *brought], load.staging_sql, typed.columns, number, typed.rejects
    )
    on = " AND ".join(f"t.{c.sql} = s.{c.sql}" for c in brought if c.name in table.primary_key)
    sets = ", ".join(f"{c.sql} = s.{c.sql}" for c in brought if c.name not in table.primary_key)
    names = [column.sql for column in [*wanted, *brought]]
    matched = f" WHEN MATCHED THEN UPDATE SET {sets}" if sets else ""
    return (
        f"MERGE INTO {table.sql_name} AS t USING ({rows}) AS s ON {on}{matched} "
        f"WHEN NOT MATCHED THEN INSERT ({', '.join(names)}) "
        f"VALUES ({', '.join(f's.{name}' for name in names)})"
    )


def _check_key_given(client: bigquery.Client, key: list[Column], rows: str) -> None:
    missing = " OR ".join(f"{column.sql} IS NULL" for column in key)
    found = query.read(
        client, f"SELECT 1 AS x FROM ({rows}) WHERE {missing} LIMIT 1", seconds=JOB_SECONDS
    )
    if found:
        raise BadRequest(
            f"A row has no {', '.join(column.name for column in key)}, which is the table's "
            "primary key. Nothing is changed."
        )


def _check_key_free(client: bigquery.Client, table: Table, key: list[Column], rows: str) -> None:
    on = " AND ".join(f"t.{column.sql} = s.{column.sql}" for column in key)
    found = query.read(
        client,
        f"SELECT 1 AS x FROM ({rows}) AS s JOIN {table.sql_name} AS t ON {on} LIMIT 1",
        seconds=JOB_SECONDS,
    )
    if found:
        raise BadRequest(
            f"A row has the same {', '.join(column.name for column in key)} as one that is there, "
            "which is the table's primary key. Nothing is changed. The mode upsert changes it."
        )

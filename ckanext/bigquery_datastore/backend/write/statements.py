"""Inserts and deletions: one statement each, under the table's lock.

The caller holds ``lock.writing`` for the table. So what a look before the statement finds
(a key that is taken) still holds when the statement runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from google.cloud import bigquery

from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.search.select import Select
from ckanext.bigquery_datastore.backend.table import layout, types
from ckanext.bigquery_datastore.backend.table.lookup import ID, Column, Table
from ckanext.bigquery_datastore.backend.table.model import Partitions, quote_name
from ckanext.bigquery_datastore.backend.write import numbers, outlived, records
from ckanext.bigquery_datastore.backend.write.records import Batch, Source
from ckanext.bigquery_datastore.errors import Invalid


def insert(
    client: bigquery.Client, table: Table, batch: Batch, *, dry_run: bool, returning: bool
) -> list[dict[str, Any]]:
    """Append checked records; those records with their ``_id`` when ``returning``.

    :raises Invalid: the key of one is taken; nothing is written
    """
    if not batch.rows or not table.user_columns:
        return []
    check_keys(client, table, batch)
    first = 1
    if table.has_id:
        take = numbers.following if dry_run else partial(numbers.reserve, count=len(batch.rows))
        first = take(client, table)
    if not dry_run:
        with records.brought(client, batch) as source:
            sql = insert_sql(table, source, first)
            outlived.change(client, table.id, sql, source.parameters)
    if not returning:
        return []
    return [_returned(table, row, n) for n, row in enumerate(batch.rows, first)]


def insert_sql(table: Table, source: Source, first: int) -> str:
    columns = [column.sql for column in source.batch.columns]
    values = [source.value(column) for column in source.batch.columns]
    if table.has_id and not records.is_numbered(source.batch):
        columns.insert(0, quote_name(ID))
        values.insert(0, f"{first - 1} + {source.number()}")
    return (
        f"INSERT INTO {table.sql_name} ({', '.join(columns)}) "
        f"SELECT {', '.join(values)} FROM {source.sql}"
    )


def _returned(table: Table, row: records.Texts, number: int) -> dict[str, Any]:
    """A new record as PostgreSQL's RETURNING would give it."""
    found: dict[str, Any] = {ID: number} if table.has_id else {}
    for column in table.user_columns:
        found[column.name] = _from_text(column, row.get(column.name))
    return found


def _from_text(column: Column, text: str | None) -> Any:
    if text is None:
        return None
    if column.type.document:
        return types.read(column.type, text)
    if column.bq_type == "BOOL":
        return text == "true"
    if column.type.is_number:
        return int(text) if text.lstrip("-").isdigit() else types.read(column.type, float(text))
    return text


# --- keys --------------------------------------------------------------------------------------


def check_keys(client: bigquery.Client, table: Table, batch: Batch) -> None:
    """That new rows have keys of their own.

    :raises Invalid: one has not; ``records_row`` is its place
    """
    if not table.primary_key or not batch.rows:
        return
    seen: dict[tuple[str, ...], int] = {}
    for number, row in enumerate(batch.rows):
        values = [row.get(name) for name in table.primary_key]
        key = tuple(value for value in values if value is not None)
        if len(key) == len(values) and seen.setdefault(key, number) != number:
            raise taken(table, number)
    given = {column.name for column in batch.columns}
    if table.num_rows == 0 and not table.streaming_buffer:
        return
    if set(table.primary_key) <= given:
        found = _matches(client, table, batch, key_of(table))
        first = next((number for number, count in sorted(found.items()) if count), None)
        if first is not None:
            raise taken(table, first - 1)


def key_of(table: Table) -> list[Column]:
    return [column for column in table.columns if column.name in table.primary_key]


def taken(table: Table, number: int) -> Invalid:
    names = ", ".join(table.primary_key)
    return Invalid(
        {
            "records": [f'duplicate key value violates unique constraint on "{names}"'],
            "records_row": number,
        }
    )


def duplicates(client: bigquery.Client, table: Table, key: Sequence[str]) -> bool:
    """Whether two rows of the table have the same key (without a NULL in it)."""
    columns = [column for column in table.columns if column.name in key]
    names = ", ".join(f"t.{column.sql}" for column in columns)
    known = " AND ".join(f"t.{column.sql} IS NOT NULL" for column in columns)
    rows = query.read(
        client,
        f"SELECT COUNT(*) AS c FROM {table.sql_name} AS t WHERE {known} "
        f"GROUP BY {names} HAVING COUNT(*) > 1 LIMIT 1",
    )
    return bool(rows)


def _matches(
    client: bigquery.Client, table: Table, batch: Batch, key: Sequence[Column]
) -> dict[int, int]:
    """How many rows of the table have the key of each row of the batch, by its place from 1."""
    with records.brought(client, batch) as source:
        rows = query.read(
            client,
            f"SELECT {source.number('s.r')} AS place, COUNT(t.{key[0].sql}) AS matches "
            f"FROM (SELECT r FROM {source.sql}) AS s LEFT JOIN {table.sql_name} AS t "
            f"ON {source.on(key)} GROUP BY place",
            source.parameters,
        )
    return {int(row["place"]): int(row["matches"]) for row in rows}


def as_record(columns: Sequence[Column], row: Sequence[Any]) -> dict[str, Any]:
    return {
        column.name: types.read(column.type, value)
        for column, value in zip(columns, row, strict=True)
    }


# --- deletion ----------------------------------------------------------------------------------


def delete(client: bigquery.Client, select: Select) -> int:
    """Delete the rows that a Select finds; how many."""
    table = select.table
    where = list(select.where)
    if where and table.partitions is not None and layout.is_spread(table):
        where.append(_places(client, select, table.partitions))
        if where[-1] == "FALSE":
            return 0
    joined = " AND ".join(f"({sql})" for sql in where) or "TRUE"
    sql = f"DELETE FROM {table.sql_name} AS t WHERE {joined}"
    return outlived.change(client, table.id, sql, select.parameters)


def _places(client: bigquery.Client, select: Select, partitions: Partitions) -> str:
    """The condition that a row ``t`` is in a partition where a row is that the Select finds."""
    place, number = layout.place_sql("t", partitions), f"t.{quote_name(ID)}"
    rows = query.read(
        client,
        f"SELECT MIN({number}) AS first, MAX({number}) AS last FROM {select.table.sql_name} AS t "
        f"WHERE {' AND '.join(f'({sql})' for sql in select.where)} GROUP BY {place}",
        select.parameters,
    )
    if any(row["first"] is None for row in rows):
        return "TRUE"  # rows without a number, which came from elsewhere
    found = [layout.Range(int(row["first"]), int(row["last"])) for row in rows]
    return layout.within("t", layout.joined(found, partitions))

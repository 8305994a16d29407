"""Upserts and updates: what the records mean is looked for, and one statement changes it.

The caller holds ``lock.writing`` for the table, as with the other ``statements``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.cloud import bigquery

from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.table import layout
from ckanext.bigquery_datastore.backend.table.lookup import ID, Column, Table
from ckanext.bigquery_datastore.backend.table.model import quote_name
from ckanext.bigquery_datastore.backend.write import numbers, outlived, records
from ckanext.bigquery_datastore.backend.write.records import Batch, Keyed, Source
from ckanext.bigquery_datastore.backend.write.statements import (
    as_record,
    insert_sql,
    key_of,
    taken,
)
from ckanext.bigquery_datastore.errors import Invalid

SourceOf = Callable[[Batch], Source]


def upsert(
    client: bigquery.Client,
    table: Table,
    rows: Sequence[Keyed],
    *,
    update_only: bool,
    dry_run: bool,
    returning: bool,
) -> list[dict[str, Any]]:
    """Change the rows that checked records mean, and insert the others unless ``update_only``.

    In a table of several partitions, the rows are looked for first, by their key alone: a statement
    that changes rows is billed for every column of all partitions that it may touch.
    https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#partitioned_tables

    :raises Invalid: (``update_only``) one means no row; nothing is written
    """
    batches = records.folded(table, rows)
    is_looked_for = update_only or len(batches) > 1 or layout.is_spread(table)
    with records.bringing(client) as source_of:
        found = [
            _ids(client, table, batch, source_of, must_exist=update_only) if is_looked_for else {}
            for batch in batches
        ]
        if update_only:
            _check_found(batches, found)
        for batch in batches:
            if table.primary_key and batch.key and batch.key[0].name == ID:
                _check_other_rows(client, table, batch, source_of)
        if dry_run:
            return []
        batch = batches[0] if len(batches) == 1 else _by_id(client, table, batches, found)
        touched = [id for ids in found for places in ids.values() for id in places]
        first = 1
        if table.has_id and not update_only:
            highest = max((int(row.get(ID) or 0) for row in batch.rows), default=0)
            count = 0 if records.is_numbered(batch) else len(batch.rows)
            first = numbers.reserve(client, table, count, highest)
        source = source_of(batch)
        if is_looked_for and not touched:
            sql = insert_sql(table, source, first)
        else:
            where = _where(table, touched) if is_looked_for else "TRUE"
            sql = _merge_sql(table, source, None if update_only else first, where)
        outlived.change(client, table.id, sql, source.parameters)
        if not returning:
            return []
        if records.is_numbered(batch):
            touched += (int(row[ID] or 0) for row in batch.rows)
        elif not update_only:
            touched += range(first, first + len(batch.rows))
        where = _where(table, touched) if is_looked_for else "TRUE"
        return _written(client, table, source, where)


def _check_found(batches: Sequence[Batch], found: Sequence[Mapping[int, Sequence[int]]]) -> None:
    """That each record means one row.

    :raises Invalid: one does not
    """
    for batch, ids in zip(batches, found, strict=True):
        for number, row in enumerate(batch.rows, 1):
            if len(ids.get(number, ())) != 1:
                key = {column.name: row[column.name] for column in batch.key}
                raise Invalid({"key": [f'key "{key}" not found']})


def _where(table: Table, ids: Sequence[int]) -> str:
    """The condition that a row ``t`` is in the partitions where rows with these numbers are."""
    if table.partitions is None or not layout.is_spread(table):
        return "TRUE"
    return layout.within("t", layout.ranges(ids, table.partitions))


def _by_id(
    client: bigquery.Client,
    table: Table,
    batches: Sequence[Batch],
    found: Sequence[Mapping[int, Sequence[int]]],
) -> Batch:
    """Batches with different kinds of keys as one whose key is ``_id``: one statement writes it.

    Rows that are not there yet get their numbers here, which are reserved with the others.
    """
    highest = max(int(row.get(ID) or 0) for batch in batches for row in batch.rows)
    following = numbers.following(client, table, highest)
    rows: dict[str, records.Texts] = {}
    given: dict[tuple[str | None, ...], str] = {}
    for batch, ids in zip(batches, found, strict=True):
        for place, row in enumerate(batch.rows, 1):
            number = row.get(ID) or next(map(str, ids.get(place, ())), None)
            if number is None:
                key = tuple(row[column.name] for column in batch.key)
                if key not in given:
                    given[key] = str(following)
                    following += 1
                number = given[key]
            rows.setdefault(number, {}).update({**row, ID: number})
    names = {name for row in rows.values() for name in row}
    columns = tuple(column for column in table.columns if column.name in names)
    id_column = next(column for column in columns if column.name == ID)
    return Batch(columns, tuple(rows.values()), (id_column,))


def _ids(
    client: bigquery.Client, table: Table, batch: Batch, source_of: SourceOf, *, must_exist: bool
) -> dict[int, list[int]]:
    """The ``_id`` of the rows that each row of a batch means, by its place from 1.

    Those that come with the batch are looked for only where they ``must_exist``.
    """
    by_number = batch.key[0].name == ID
    if by_number and not must_exist:
        return {place: [int(row[ID] or 0)] for place, row in enumerate(batch.rows, 1)}
    where = _where(table, [int(row[ID] or 0) for row in batch.rows]) if by_number else "TRUE"
    number = f"t.{quote_name(ID)}" if table.has_id else "0"
    source = source_of(batch)
    rows = query.read(
        client,
        f"SELECT {source.number('s.r')} AS place, {number} AS number "
        f"FROM (SELECT r FROM {source.sql}) AS s JOIN {table.sql_name} AS t "
        f"ON {source.on(batch.key)} AND {where}",
        source.parameters,
    )
    found: dict[int, list[int]] = {}
    for row in rows:
        found.setdefault(int(row["place"]), []).append(int(row["number"]))
    return found


def _check_other_rows(
    client: bigquery.Client, table: Table, batch: Batch, source_of: SourceOf
) -> None:
    """That rows meant by ``_id`` do not get the key of another row."""
    key = key_of(table)
    if not {column.name for column in key} <= {c.name for c in batch.columns}:
        return
    number = next(column for column in batch.columns if column.name == ID)
    source = source_of(batch)
    rows = query.read(
        client,
        f"SELECT MIN({source.number('s.r')}) AS place FROM (SELECT r FROM {source.sql}) AS s "
        f"JOIN {table.sql_name} AS t ON {source.on(key)} "
        f"WHERE t.{number.sql} <> {source.value(number, 's.r')}",
        source.parameters,
    )
    if rows and rows[0]["place"] is not None:
        raise taken(table, int(rows[0]["place"]) - 1)


def _merge_sql(table: Table, source: Source, first: int | None, where: str) -> str:
    """``first`` is the number of the first new row; None where rows are changed only. ``where``
    holds for every row of the table that may be changed."""
    batch = source.batch
    names = {column.name for column in batch.key}
    sets = [
        f"{column.sql} = {_new_value(source, column)}"
        for column in batch.columns
        if column.name not in names
    ]
    columns = [column.sql for column in batch.columns]
    values = [source.value(column, "s.r") for column in batch.columns]
    if table.has_id and not records.is_numbered(batch):
        columns.insert(0, quote_name(ID))
        values.insert(0, f"{(first or 1) - 1} + {source.number('s.r')}")
    sql = (
        f"MERGE INTO {table.sql_name} AS t USING (SELECT r FROM {source.sql}) AS s "
        f"ON {source.on(batch.key)} AND {where}"
    )
    if sets:
        sql += f" WHEN MATCHED THEN UPDATE SET {', '.join(sets)}"
    if first is not None:
        sql += f" WHEN NOT MATCHED THEN INSERT ({', '.join(columns)}) VALUES ({', '.join(values)})"
    return sql


def _new_value(source: Source, column: Column) -> str:
    value = source.value(column, "s.r")
    if source.batch.is_even:
        return value
    return f"IF({source.is_given(column, 's.r')}, {value}, t.{column.sql})"


def _written(
    client: bigquery.Client, table: Table, source: Source, where: str
) -> list[dict[str, Any]]:
    """The rows of the table that a batch means, in the batch's order; ``where`` holds for them."""
    columns = [column for column in table.columns if column.name == ID] + list(table.user_columns)
    names = ", ".join(f"t.{column.sql} AS c{n}" for n, column in enumerate(columns))
    rows = query.read(
        client,
        f"SELECT {names} FROM (SELECT r FROM {source.sql}) AS s JOIN {table.sql_name} AS t "
        f"ON {source.on(source.batch.key)} AND {where} ORDER BY {source.number('s.r')}",
        source.parameters,
    )
    return [as_record(columns, row.values()) for row in rows]

"""Inserts, upserts, updates and deletions: one statement each, under the table's lock.

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
from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.backend.table.lookup import ID, Column, Table
from ckanext.bigquery_datastore.backend.table.model import quote_name
from ckanext.bigquery_datastore.backend.write import numbers, records
from ckanext.bigquery_datastore.backend.write.records import Batch, Keyed, Source
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
            query.write(client, _insert_sql(table, source, first), source.parameters)
    if not returning:
        return []
    return [_returned(table, row, n) for n, row in enumerate(batch.rows, first)]


def _insert_sql(table: Table, source: Source, first: int) -> str:
    columns = [column.sql for column in source.batch.columns]
    values = [source.value(column) for column in source.batch.columns]
    if table.has_id:
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
        found = _matches(client, table, batch, _key(table))
        first = next((number for number, count in sorted(found.items()) if count), None)
        if first is not None:
            raise taken(table, first - 1)


def _key(table: Table) -> list[Column]:
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


# --- upsert and update -------------------------------------------------------------------------


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

    :raises Invalid: (``update_only``) one means no row; nothing is written
    """
    batches = records.folded(table, rows)
    if update_only:
        for batch in batches:
            found = _matches(client, table, batch, batch.key)
            for number, row in enumerate(batch.rows, 1):
                if found.get(number, 0) != 1:
                    key = {column.name: row[column.name] for column in batch.key}
                    raise Invalid({"key": [f'key "{key}" not found']})
    for batch in batches:
        if table.primary_key and batch.key and batch.key[0].name == ID:
            _check_other_rows(client, table, batch)
    if dry_run:
        return []
    batch = batches[0] if len(batches) == 1 else _by_id(client, table, batches)
    first = 1
    if table.has_id and not update_only:
        is_numbered = ID in {column.name for column in batch.columns}
        highest = max((int(row.get(ID) or 0) for row in batch.rows), default=0)
        first = numbers.reserve(client, table, 0 if is_numbered else len(batch.rows), highest)
    with records.brought(client, batch) as source:
        query.write(
            client, _merge_sql(table, source, None if update_only else first), source.parameters
        )
    return _written(client, table, batch) if returning else []


def _by_id(client: bigquery.Client, table: Table, batches: Sequence[Batch]) -> Batch:
    """Batches with different kinds of keys as one whose key is ``_id``: one statement writes it.

    Rows that are not there yet get their numbers here, which are reserved with the others.
    """
    highest = max(int(row.get(ID) or 0) for batch in batches for row in batch.rows)
    following = numbers.following(client, table, highest)
    rows: dict[str, records.Texts] = {}
    given: dict[tuple[str | None, ...], str] = {}
    for batch in batches:
        found = {} if batch.key[0].name == ID else _ids(client, table, batch)
        for place, row in enumerate(batch.rows, 1):
            number = row.get(ID) or found.get(place)
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


def _ids(client: bigquery.Client, table: Table, batch: Batch) -> dict[int, str]:
    """The ``_id`` of the row that each row of a batch means, by its place from 1."""
    with records.brought(client, batch) as source:
        found = query.read(
            client,
            f"SELECT {source.number('s.r')} AS place, t.{quote_name(ID)} AS number "
            f"FROM (SELECT r FROM {source.sql}) AS s JOIN {table.sql_name} AS t "
            f"ON {source.on(batch.key)}",
            source.parameters,
        )
    return {int(row["place"]): str(row["number"]) for row in found}


def _check_other_rows(client: bigquery.Client, table: Table, batch: Batch) -> None:
    """That rows meant by ``_id`` do not get the key of another row."""
    key = _key(table)
    if not {column.name for column in key} <= {c.name for c in batch.columns}:
        return
    number = next(column for column in batch.columns if column.name == ID)
    with records.brought(client, batch) as source:
        rows = query.read(
            client,
            f"SELECT MIN({source.number('s.r')}) AS place FROM (SELECT r FROM {source.sql}) AS s "
            f"JOIN {table.sql_name} AS t ON {source.on(key)} "
            f"WHERE t.{number.sql} <> {source.value(number, 's.r')}",
            source.parameters,
        )
    if rows and rows[0]["place"] is not None:
        raise taken(table, int(rows[0]["place"]) - 1)


def _merge_sql(table: Table, source: Source, first: int | None) -> str:
    """``first`` is the number of the first new row; None where rows are changed only."""
    batch = source.batch
    names = {column.name for column in batch.key}
    sets = [
        f"{column.sql} = {_new_value(source, column)}"
        for column in batch.columns
        if column.name not in names
    ]
    columns = [column.sql for column in batch.columns]
    values = [source.value(column, "s.r") for column in batch.columns]
    if table.has_id and ID not in {column.name for column in batch.columns}:
        columns.insert(0, quote_name(ID))
        values.insert(0, f"{(first or 1) - 1} + {source.number('s.r')}")
    sql = (
        f"MERGE INTO {table.sql_name} AS t USING (SELECT r FROM {source.sql}) AS s "
        f"ON {source.on(batch.key)}"
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


def _written(client: bigquery.Client, table: Table, batch: Batch) -> list[dict[str, Any]]:
    """The rows of the table that a batch means, in the batch's order."""
    columns = [column for column in table.columns if column.name == ID] + list(table.user_columns)
    names = ", ".join(f"t.{column.sql} AS c{n}" for n, column in enumerate(columns))
    with records.brought(client, batch) as source:
        rows = query.read(
            client,
            f"SELECT {names} FROM (SELECT r FROM {source.sql}) AS s JOIN {table.sql_name} AS t "
            f"ON {source.on(batch.key)} ORDER BY {source.number('s.r')}",
            source.parameters,
        )
    return [as_record(columns, row.values()) for row in rows]


def as_record(columns: Sequence[Column], row: Sequence[Any]) -> dict[str, Any]:
    return {
        column.name: types.read(column.type, value)
        for column, value in zip(columns, row, strict=True)
    }


# --- deletion ----------------------------------------------------------------------------------


def delete(client: bigquery.Client, select: Select) -> int:
    """Delete the rows that a Select finds; how many."""
    where = " AND ".join(f"({sql})" for sql in select.where) or "TRUE"
    sql = f"DELETE FROM {select.table.sql_name} AS t WHERE {where}"
    return query.write(client, sql, select.parameters)

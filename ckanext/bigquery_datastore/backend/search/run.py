"""The rows that a Select finds: by a query, or by none at all; how they are told of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from google.cloud import bigquery

from ckanext.bigquery_datastore import clients, compat
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.search import pages, results
from ckanext.bigquery_datastore.backend.search.select import Select
from ckanext.bigquery_datastore.backend.table.layout import Range
from ckanext.bigquery_datastore.backend.table.lookup import ID, Column, Table, quote_name
from ckanext.bigquery_datastore.recent import Recent

#: Tables that are this small are read whole, and sorted here: a query would cost more.
SMALL_ROWS = 1_000

# How many rows of a table lie where, by the table's name and state.
CENSUSES: Recent[list[pages.Counted]] = Recent()


@dataclass(frozen=True)
class Found:
    """The rows of a search, and their columns. ``total``: without limit and offset, where known."""

    columns: tuple[Column, ...]
    rows: list[tuple[Any, ...]]
    total: int | None = None


def run(client: bigquery.Client, select: Select, seconds: float, *, counted: bool = False) -> Found:
    """The rows that a Select finds; read without a query where that is the same.

    ``counted``: their total is wanted; it comes with them where that costs no more.
    """
    direct = _read_directly(client, select)
    if direct is not None:
        return direct
    if select.limit == 0:
        return Found(select.columns, [])
    if (page := _read_page(client, select, seconds)) is not None:
        return page
    return _read(client, select, select, seconds, counted=counted)


def _read(
    client: bigquery.Client, select: Select, of: Select, seconds: float, *, counted: bool
) -> Found:
    """The rows of a statement; ``counted``: and how many there are ``of`` all."""
    if not counted:
        rows = query.read(client, select.sql(), select.parameters, seconds=seconds)
        return Found(select.columns, [row.values() for row in rows])
    rows = query.read(client, _counted_sql(select, of), select.parameters, seconds=seconds)
    total = rows[0][0] if rows else None if of.offset else 0
    return Found(select.columns, [row.values()[1:] for row in rows], total)


def _counted_sql(select: Select, of: Select) -> str:
    """The statement of a Select with the number of all rows in front of each.

    Not by COUNT(*) OVER (): that would bring every row that is found to one worker of BigQuery.
    The rows' statement reads what the count reads, so both are billed once; and a count of all
    rows of a table reads nothing.
    """
    name = "total"
    while name in select.aliases:
        name = f"{name}_"
    return f"SELECT ({of.count_sql()}) AS {quote_name(name)}, {select.sql()[len('SELECT ') :]}"


def _read_page(client: bigquery.Client, select: Select, seconds: float) -> Found | None:
    """A page in the order of ``_id`` out of the partitions that hold it. None: not possible."""
    table = select.table
    if not pages.is_by_number(select):
        return None
    known = pages.dense(table)
    if known is None and table.num_bytes >= pages.CENSUS_BYTES:
        known = CENSUSES.get(
            f"{table.full_id} {table.etag}", lambda: _census(client, table, seconds)
        )
    if known is None or sum(each.rows for each in known) != table.num_rows:
        return None
    # No count beside it: whether that would be billed for all partitions is not documented.
    page = _read(client, pages.page(select, known), select, seconds, counted=False)
    if len(page.rows) < min(select.limit or 0, table.num_rows - select.offset):
        return None  # rows have gone since it was counted
    return page


def _census(client: bigquery.Client, table: Table, seconds: float) -> list[pages.Counted] | None:
    """How many rows lie where; None where some have no number."""
    rows = query.read(client, pages.census_sql(table), seconds=seconds)
    if any(row["first"] is None for row in rows):
        return None
    return [
        pages.Counted(Range(int(row["first"]), int(row["last"])), int(row["found"])) for row in rows
    ]


def _read_directly(client: bigquery.Client, select: Select) -> Found | None:
    """A page in the order of ``_id`` by tabledata.list, which is free. None: not possible.

    tabledata.list promises no order, so what it gave is checked: either it was the whole
    table, or the first page has the ids 1, 2, 3 …, which nothing can come before (``_id`` is
    unique and never below 1).
    """
    table = select.table
    order = select.order_by
    if (
        not select.is_whole_table
        or table.kind != "TABLE"
        or table.streaming_buffer
        or select.limit is None
        or select.ranks
        or len(order) != 1
        or order[0].column != ID
        or order[0].descending
    ):
        return None
    small = table.num_rows <= SMALL_ROWS
    # In partitions, the page is found by its numbers for next to nothing.
    if not small and (select.offset or table.partitions is not None):
        return None
    # Of an empty table one row is asked for: it may have some by now.
    wanted = max(table.num_rows, 1) if small else select.limit
    if select.limit == 0:
        return None
    with clients.told(f"reading the table {table.id}"):
        listed = client.list_rows(
            bigquery.TableReference.from_string(table.full_id),
            selected_fields=_fields(select),
            max_results=wanted,
            page_size=wanted,
            **clients.budget(),
        )
        rows = list(listed)
        total = listed.total_rows
    names = {field.name: place for place, field in enumerate(listed.schema)}
    place = names[ID]
    if small:
        if len(rows) != total or any(row[place] is None for row in rows):
            return None
        rows.sort(key=lambda row: row[place])
        rows = rows[select.offset : select.offset + select.limit]
    elif [row[place] for row in rows] != list(range(1, len(rows) + 1)):
        return None
    places = [names[column.stored] for column in select.columns]
    return Found(select.columns, [tuple(row[n] for n in places) for row in rows], total)


def _fields(select: Select) -> list[bigquery.SchemaField]:
    wanted = {column.stored: column for column in select.columns}
    id_column = select.table.column(ID)
    if id_column is not None:
        wanted.setdefault(ID, id_column)
    return [_field(column) for column in wanted.values()]


def _field(column: Column) -> bigquery.SchemaField:
    kind = "STRUCT" if column.fields else column.bq_type
    mode = "REPEATED" if column.repeated else "NULLABLE"
    return bigquery.SchemaField(
        column.stored, kind, mode, fields=tuple(_field(child) for child in column.fields)
    )


def total(client: bigquery.Client, select: Select, seconds: float) -> int:
    """How many rows there are without limit and offset. Free where every row is found."""
    if _metadata_counts(select):
        return select.table.num_rows
    rows = query.read(client, select.count_sql(), select.parameters, seconds=seconds)
    return int(rows[0]["total"])


def _metadata_counts(select: Select) -> bool:
    """Whether the table's metadata tell how many rows there are."""
    table = select.table
    return select.is_whole_table and table.kind == "TABLE" and not table.streaming_buffer


def next_page(select: Select, found: Found, limit: int) -> dict[str, Any] | None:
    """The filter that finds the page after this one, in the order of ``_id``."""
    if len(select.order_by) != 1 or select.order_by[0].column != ID or select.distinct:
        return None
    place = next((n for n, column in enumerate(found.columns) if column.name == ID), None)
    if place is None or not found.rows:
        return None
    op = "lt" if select.order_by[0].descending else "gt"
    return {ID: {op: found.rows[-1][place]}}


def with_id(select: Select) -> Select:
    """The Select with ``_id`` among its columns, last where it was not asked for."""
    id_column = select.table.column(ID)
    if id_column is None or any(column.name == ID for column in select.columns):
        return select
    return replace(select, columns=(*select.columns, id_column))


def fields_of(columns: tuple[Column, ...]) -> list[dict[str, Any]]:
    """The ``fields`` of an answer, in core's words."""
    return [field_of(column, json_name="json") for column in columns]


def field_of(column: Column, json_name: str = "nested") -> dict[str, Any]:
    name = column.type.name
    if column.name == ID:
        name = "int"
    elif column.name.startswith("rank"):
        name = "float" if column.stored.startswith("__rank") else name
    elif name == "nested":
        name = json_name
    found: dict[str, Any] = {"id": column.name, "type": name}
    if column.info:
        found["info"] = dict(column.info)
    return found


def formatted(records_format: str, columns: tuple[Column, ...], rows: list[tuple[Any, ...]]) -> Any:
    return results.FORMATS[records_format](columns, rows, compat.ms_in_timestamp())

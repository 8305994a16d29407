"""datastore_search: the hooks of other plugins, the query (or no query at all), the answer."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlglot
from ckan.plugins import PluginImplementations
from ckan.plugins import toolkit as tk
from ckan.types import Context
from ckanext.datastore.interfaces import IDatastore
from google.cloud import bigquery
from sqlglot import expressions as exp
from sqlglot.errors import SqlglotError

from ckanext.bigquery_datastore import clients, compat, config
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.backend.search import bounds, pages, results
from ckanext.bigquery_datastore.backend.search import filters as filters_module
from ckanext.bigquery_datastore.backend.search.build import build, get_list, invalid_value
from ckanext.bigquery_datastore.backend.search.select import Select, T
from ckanext.bigquery_datastore.backend.table import reading
from ckanext.bigquery_datastore.backend.table.layout import Range
from ckanext.bigquery_datastore.backend.table.lookup import ID, Column, Table, quote_name
from ckanext.bigquery_datastore.errors import Invalid
from ckanext.bigquery_datastore.recent import Recent

#: Tables that are this small are read whole, and sorted here: a query would cost more.
SMALL_ROWS = 1_000

# How many rows of a table lie where, by the table's name and state.
CENSUSES: Recent[list[pages.Counted]] = Recent()

_NOT_CHECKED = (
    "connection_url",
    "resource_id",
    "id",
    "include_total",
    "total_estimation_threshold",
    "records_format",
    "include_records",
    "include_deleted_records",
    "calculate_record_count",
    "include_next_page",
    "filterops",
)


def plan(context: Context, table: Table, params: Mapping[str, Any], hook: str) -> Select:
    """The Select for a request, with the filters of other plugins.

    ``hook`` is the method of IDatastore that adds conditions: datastore_search or
    datastore_delete.

    :raises Invalid: core would refuse the request
    """
    # First of all: what comes next copies the parameters, and goes through them.
    bounds.check(params, config.search_characters())
    params = dict(params)
    if "filters" in params:
        arrays = {column.name for column in table.columns if column.type.element}
        params["filters"] = compat.array_filters(params["filters"], arrays)
    names = {column.name: column.type.name for column in available(table)}
    checked = _check_by_plugins(context, params, names)
    where, parameters = _conditions_of_plugins(context, params, names, hook)
    return build(
        table,
        params,
        extra_where=where,
        extra_parameters=parameters,
        custom_filters=checked,
        characters=config.search_characters(),
        default_language=tk.config.get("ckan.datastore.default_fts_lang") or "english",
    )


def available(table: Table) -> list[Column]:
    """The columns of a search: ``_id`` and the fields."""
    first = [column for column in table.columns if column.name == ID]
    return first + list(table.user_columns)


def _check_by_plugins(
    context: Context, params: dict[str, Any], names: dict[str, str]
) -> frozenset[str]:
    """Let every plugin take out what it knows; what is left is a mistake, as in core.

    Gives the names of filters that are not columns.
    """
    try:
        condition = filters_module.parse(params.get("filters"), names)
    except filters_module.InvalidFilters as err:
        raise Invalid({"filters": err.messages}) from err
    flat = filters_module.fields_of(condition)
    left = copy.deepcopy({key: value for key, value in params.items() if key not in _NOT_CHECKED})
    for key, strip in (("fields", True), ("sort", False)):
        if key in left:
            left[key] = get_list(left[key], strip)
    if "filters" in left:
        left["filters"] = dict(flat)
    for plugin in PluginImplementations(IDatastore):
        left = plugin.datastore_validate(context, left, dict(names))
    for key, values in left.items():
        if values and key not in _NOT_CHECKED:
            raise invalid_value(key, _first(values))
    return frozenset(flat) - frozenset(names)


def _first(values: Any) -> Any:
    if isinstance(values, (list, tuple)):
        return values[0]
    return next(iter(values)) if isinstance(values, dict) else values


def _conditions_of_plugins(
    context: Context, params: dict[str, Any], names: dict[str, str], hook: str
) -> tuple[list[str], list[Parameter]]:
    """What other plugins add to the condition: PostgreSQL's SQL, brought into BigQuery's."""
    query_dict: dict[str, Any] = {"select": [], "sort": [], "where": []}
    for plugin in PluginImplementations(IDatastore):
        query_dict = getattr(plugin, hook)(context, params, dict(names), query_dict)
    where: list[str] = []
    parameters: list[Parameter] = []
    for clause, *values in query_dict["where"]:
        sql, more = _translated(clause, values[0] if values else {}, len(parameters))
        where.append(sql)
        parameters.extend(more)
    return where, parameters


def _translated(clause: str, values: Mapping[str, Any], start: int) -> tuple[str, list[Parameter]]:
    """One condition with ``:name`` placeholders in BigQuery's SQL, with its parameters."""
    given = {name: f"x{start + number}" for number, name in enumerate(values)}
    text = re.sub(
        r"(?<!:):([A-Za-z_]\w*)",
        lambda match: f"@{given[match.group(1)]}" if match.group(1) in given else match.group(0),
        clause,
    )
    try:
        parsed = sqlglot.parse(text, read="postgres")
    except SqlglotError as err:
        raise Invalid({"query": ["Query is not a single statement."]}) from err
    allowed = (exp.Condition, exp.Predicate, exp.Connector, exp.Paren, exp.Column)
    if len(parsed) != 1 or not isinstance(parsed[0], allowed):
        raise Invalid({"query": ["Query is not a single statement."]})
    if any(parsed[0].find_all(exp.Query, exp.DML, exp.Command, exp.Table)):
        raise Invalid({"query": ["Query is not a single statement."]})
    for column in parsed[0].find_all(exp.Column):
        column.set("table", exp.to_identifier(T))
    parameters = [_parameter(given[name], value) for name, value in values.items()]
    return parsed[0].sql(dialect="bigquery"), parameters


def _parameter(name: str, value: Any) -> Parameter:
    if isinstance(value, bool):
        return Parameter(name, "BOOL", "true" if value else "false")
    if isinstance(value, int):
        return Parameter(name, "INT64", str(value))
    if isinstance(value, float):
        return Parameter(name, "FLOAT64", reading.float_text(value))
    return Parameter(name, "STRING", str(value))


# --- the answer --------------------------------------------------------------------------------


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
    if (page := _read_page(client, select, seconds, counted=counted)) is not None:
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


def _read_page(
    client: bigquery.Client, select: Select, seconds: float, *, counted: bool
) -> Found | None:
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
    page = _read(client, pages.page(select, known), select, seconds, counted=counted)
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

"""What a request asks for, as a Select: its parameters, and what other plugins make of them."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import sqlglot
from ckan.plugins import PluginImplementations
from ckan.plugins import toolkit as tk
from ckan.types import Context
from ckanext.datastore.interfaces import IDatastore
from sqlglot import expressions as exp
from sqlglot.errors import SqlglotError

from ckanext.bigquery_datastore import compat, config
from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.backend.search import bounds
from ckanext.bigquery_datastore.backend.search import filters as filters_module
from ckanext.bigquery_datastore.backend.search.build import build, get_list
from ckanext.bigquery_datastore.backend.search.conditions import invalid_value
from ckanext.bigquery_datastore.backend.search.select import Select, T
from ckanext.bigquery_datastore.backend.table import reading
from ckanext.bigquery_datastore.backend.table.lookup import ID, Column, Table
from ckanext.bigquery_datastore.errors import Invalid

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

"""What datastore_search answers: records, fields, total and the next page, in core's words."""

from __future__ import annotations

from typing import Any

from ckan.lib.lazyjson import LazyJSONObject
from ckan.types import Context

from ckanext.bigquery_datastore import clients, compat
from ckanext.bigquery_datastore.backend.search import results
from ckanext.bigquery_datastore.backend.search.run import (
    fields_of,
    formatted,
    next_page,
    run,
    total,
    with_id,
)
from ckanext.bigquery_datastore.backend.search.select import Select
from ckanext.bigquery_datastore.backend.table import lookup


def answer(
    context: Context, client: Any, select: Select, data_dict: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """The request, with what was found put into it."""
    wants_next = bool(data_dict.get("include_next_page"))
    asked = select.columns
    wants_total = bool(data_dict.get("include_total", True))
    found = run(client, with_id(select) if wants_next else select, seconds, counted=wants_total)
    rows = [row[: len(asked)] for row in found.rows]
    records = formatted(data_dict.get("records_format", "objects"), asked, rows)
    if isinstance(records, list):
        if records and "api_version" in context:
            records = LazyJSONObject(results.as_json(records))
        else:
            records = results.plain(records)
    data_dict["records"] = records
    data_dict["fields"] = fields_of(asked)
    if wants_total:
        known = found.total is not None
        data_dict["total"] = found.total if known else total(client, select, seconds)
    if wants_next:
        page = next_page(select, found, int(data_dict.get("limit") or 0))
        if page is not None:
            data_dict["next_page"] = page
    compat.add_search_extras(data_dict, select.is_whole_table)
    return data_dict


def table_metadata(data_dict: dict[str, Any]) -> dict[str, Any]:
    """The list of tables and aliases that core offers as a table."""
    listed = lookup.listed(clients.bigquery_ro())
    start = int(data_dict.get("offset") or 0)
    page = listed[start : start + int(data_dict.get("limit") or 100)]
    names = ("_id", "name", "oid", "alias_of")
    rows = [(item.id, item.id, None, item.alias_of) for item in page]
    data_dict["records"] = [dict(zip(names, row, strict=True)) for row in rows]
    if data_dict.get("records_format") == "lists":
        data_dict["records"] = [list(row) for row in rows]
    data_dict["fields"] = [{"id": name, "type": "text"} for name in names]
    if data_dict.get("include_total", True):
        data_dict["total"] = len(listed)
    return data_dict

"""What datastore_upsert and datastore_delete do to the rows of a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ckan.plugins import toolkit as tk
from ckan.types import Context
from google.cloud import bigquery

from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.designer import checks
from ckanext.bigquery_datastore.backend.search import asked, results, run
from ckanext.bigquery_datastore.backend.table.lookup import Table
from ckanext.bigquery_datastore.backend.write import numbers, statements
from ckanext.bigquery_datastore.backend.write.upsert import upsert as upsert_records


def upsert(client: bigquery.Client, table: Table, data_dict: dict[str, Any]) -> Any:
    """Change and insert rows, by the method that is asked for; the request, with its records.

    :raises Invalid: something that core would refuse; nothing is written
    """
    records = data_dict.get("records")
    if not records:
        return data_dict
    method = data_dict.get("method", "upsert")
    options = {
        "dry_run": bool(data_dict.get("dry_run")),
        "returning": bool(data_dict.get("include_records")),
    }
    if method == "insert":
        written = statements.insert(
            client, table, checks.inserted(client, table, records), **options
        )
    else:
        is_update = method == "update"
        rows = checks.changed(client, table, records, update_only=is_update)
        written = upsert_records(client, table, rows, update_only=is_update, **options)
    if options["returning"] and written:
        data_dict["records"] = written
    return data_dict


def delete_rows(
    client: bigquery.Client, context: Context, table: Table, data_dict: dict[str, Any]
) -> None:
    """Delete the rows that filters find; they are put into the request where that is asked for."""
    params = {"filters": data_dict["filters"]}
    select = asked.plan(context, table, {**data_dict, **params}, "datastore_delete")
    if data_dict.get("include_deleted_records"):
        rows_max = int(tk.config.get("ckan.datastore.search.rows_max") or 32000)
        found = run.run(client, replace(select, limit=rows_max), query.READ_SECONDS)
        data_dict["deleted_records"] = results.plain(
            results.objects(found.columns, found.rows, True)
        )
    if table.has_id and not table.block:
        # So that the number of a deleted row is not given to another one.
        numbers.reserve(client, table, 0)
    statements.delete(client, select)

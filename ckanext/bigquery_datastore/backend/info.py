"""What datastore_info tells of a table."""

from __future__ import annotations

from typing import Any

from google.cloud import bigquery

from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.search import run
from ckanext.bigquery_datastore.backend.search.select import Select
from ckanext.bigquery_datastore.backend.table.lookup import Table


def meta(client: bigquery.Client, table: Table) -> dict[str, Any]:
    """The ``meta`` of datastore_info, in core's words; sizes in bytes."""
    whole = Select(table, table.columns)
    return {
        "id": table.id,
        "count": run.total(client, whole, query.READ_SECONDS),
        "table_type": "BASE TABLE" if table.kind == "TABLE" else table.kind.replace("_", " "),
        "size": table.num_bytes,
        # BigQuery tells neither without a query over the whole dataset.
        "db_size": None,
        "idx_size": 0,
        "aliases": list(reversed(table.aliases)),
    }


def field_schema(table: Table, name: str, native: str) -> dict[str, Any]:
    """The ``schema`` of one of its fields."""
    in_key = name in table.primary_key
    index = next((index for index in table.indexes if name in index), None)
    return {
        "native_type": native,
        "notnull": False,
        "index_name": "_".join(table.primary_key if in_key else index or ()) or None,
        "is_index": in_key or index is not None,
        "uniquekey": in_key,
    }

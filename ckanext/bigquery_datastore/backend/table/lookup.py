"""The tables of the site's dataset, read by ``tables.get``: one free request, no query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.api_core import exceptions as gexc
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.backend.table.model import (
    ALIAS_LABEL,
    ID,
    Column,
    Table,
    quote_name,
    read_description,
    split_description,
    unpack,
)
from ckanext.bigquery_datastore.recent import Recent

__all__ = [
    "ID",
    "TABLES",
    "Column",
    "Table",
    "from_api",
    "get_table",
    "quote_name",
    "reference",
    "resolve",
]

# Tables by the id of their resource, as this process heard of them a moment ago.
TABLES: Recent[Table] = Recent()


def _column_from_api(api: bigquery.SchemaField, long: Mapping[str, Any]) -> Column:
    info, data = read_description(api.description or "")
    plugin_data = data.get("plugins") or {}
    if data.get("more") and api.name in long:
        info, plugin_data = long[api.name].get("info", {}), long[api.name].get("plugins", {})
    repeated = api.mode == "REPEATED"
    return Column(
        name=data.get("name") or api.name,
        type=types.of_column(api.field_type, repeated, data.get("type")),
        stored=api.name,
        repeated=repeated,
        fields=tuple(_column_from_api(child, {}) for child in api.fields),
        info=info,
        plugin_data=plugin_data,
        required=api.mode == "REQUIRED",
    )


def from_api(api: bigquery.Table) -> Table:
    """The Table that a ``google.cloud.bigquery.Table`` describes."""
    _, data = split_description(api.description or "")
    long = unpack(data["columns"]) if data.get("columns") else {}
    return Table(
        project=api.project,
        dataset=api.dataset_id,
        id=api.table_id,
        columns=tuple(_column_from_api(column, long) for column in api.schema),
        kind=api.table_type or "TABLE",
        modified=api.modified,
        num_rows=int(api.num_rows or 0),
        num_bytes=int(api.num_bytes or 0),
        streaming_buffer=api.streaming_buffer is not None,
        aliases=tuple(data.get("aliases") or ()),
        alias_of=data.get("alias_of") or (api.labels or {}).get(ALIAS_LABEL),
        primary_key=tuple(data.get("primary_key") or ()),
        has_own_key=_has_own_key(api),
        indexes=tuple(tuple(index) for index in data.get("indexes") or ()),
        last_id=int(data.get("last_id") or 0),
        block=str(data.get("block") or ""),
        etag=api.etag or "",
        description=api.description or "",
        location=api.location or "",
    )


def _has_own_key(api: bigquery.Table) -> bool:
    constraints = api.table_constraints
    return constraints is not None and constraints.primary_key is not None


def reference(id: str) -> bigquery.TableReference:
    """Where the table of this name is, or would be."""
    return bigquery.DatasetReference(config.project(), config.dataset()).table(id)


def get_table(
    client: bigquery.Client, id: str, timeout: float = clients.CALL_SECONDS
) -> Table | None:
    """The table or view of this name in the site's dataset, or None. One free request.

    :raises OutsideError: Google refuses or does not answer within ``timeout`` seconds
    """
    if not id or len(id.encode()) > 1_024 or "/" in id:
        return None
    with clients.told(f"reading the table {id}", gexc.NotFound, gexc.BadRequest):
        try:
            return from_api(client.get_table(reference(id), **clients.budget(timeout)))
        except (gexc.NotFound, gexc.BadRequest):
            return None  # a name that BigQuery does not even allow is a name of nothing


def resolve(id_or_alias: str, client: bigquery.Client | None = None) -> str | None:
    """The resource's id behind a name: its own, or that of the table an alias stands for."""
    table = get_table(client or clients.bigquery_ro(), id_or_alias)
    if table is None:
        return None
    return table.alias_of or table.id

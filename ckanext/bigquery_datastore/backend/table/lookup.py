"""The tables of the site's dataset, read by ``tables.get`` and ``tables.list``: free, no query."""

from __future__ import annotations

import datetime
import logging
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as gexc
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.backend.table import naming
from ckanext.bigquery_datastore.backend.table.model import (
    ALIAS_LABEL,
    ID,
    Column,
    Partitions,
    Table,
    quote_name,
    read_description,
    split_description,
    unpack,
)
from ckanext.bigquery_datastore.errors import BadRequest
from ckanext.bigquery_datastore.recent import Recent

__all__ = [
    "ID",
    "TABLES",
    "Column",
    "Table",
    "from_api",
    "get_table",
    "is_name",
    "quote_name",
    "reference",
]

log = logging.getLogger(__name__)

# Letters, marks, numbers, connectors, dashes and spaces, 1,024 bytes in all:
# https://cloud.google.com/bigquery/docs/tables#table_naming
_NAME_CATEGORIES = {"L", "M", "N", "Pc", "Pd", "Zs"}
_NAME_BYTES = 1_024

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
        type=naming.of_column(api.field_type, repeated, data.get("type")),
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
        alias_of=_alias_of(api, data),
        primary_key=tuple(data.get("primary_key") or ()),
        has_own_key=_has_own_key(api),
        indexes=tuple(tuple(index) for index in data.get("indexes") or ()),
        partitions=_partitions(api),
        last_id=int(data.get("last_id") or 0),
        block=str(data.get("block") or ""),
        etag=api.etag or "",
        description=api.description or "",
        location=api.location or "",
        attached=str(data.get("attached") or "") if api.table_type == "VIEW" else "",
    )


def _alias_of(api: bigquery.Table, data: Mapping[str, Any]) -> str | None:
    """The resource that a view stands for; a table is nobody's alias, whatever it says."""
    if api.table_type != "VIEW":
        return None
    return data.get("alias_of") or (api.labels or {}).get(ALIAS_LABEL)


def _partitions(api: bigquery.Table) -> Partitions | None:
    found = api.range_partitioning
    if found is None or not found.field:
        return None
    bounds = found.range_
    if bounds.start is None or bounds.end is None or not bounds.interval:
        return None
    return Partitions(found.field, bounds.start, bounds.end, bounds.interval)


def _has_own_key(api: bigquery.Table) -> bool:
    constraints = api.table_constraints
    return constraints is not None and constraints.primary_key is not None


def is_name(text: str) -> bool:
    """Whether a table of BigQuery may have this name.

    No such name holds a character that means something in a URL, but for spaces and letters beyond
    ASCII, which ``requests`` quotes: the client library puts names into paths as they are.
    """
    categories = map(unicodedata.category, text)
    is_allowed = all(c in _NAME_CATEGORIES or c[0] in _NAME_CATEGORIES for c in categories)
    return bool(text) and is_allowed and len(text.encode()) <= _NAME_BYTES


def reference(id: str) -> bigquery.TableReference:
    """Where the table of this name is, or would be. Every request for a table is made of this.

    :raises BadRequest: it is no name of a table
    """
    if not is_name(id):
        raise BadRequest(f"{id!r} cannot be the name of a table in BigQuery.")
    return bigquery.DatasetReference(config.project(), config.dataset()).table(id)


def get_table(client: bigquery.Client, id: str, timeout: float | None = None) -> Table | None:
    """The table or view of this name in the site's dataset, or None. One free request.

    :raises OutsideError: Google refuses or does not answer within ``timeout`` seconds, or
        ``clients.CALL_SECONDS``
    """
    if not is_name(id):
        return None
    asked = reference(id)
    with clients.told(f"reading the table {id}", gexc.NotFound, gexc.BadRequest):
        try:
            api = client.get_table(asked, **clients.budget(timeout))
        except (gexc.NotFound, gexc.BadRequest):
            return None  # a name that BigQuery does not even allow is a name of nothing
    if api.reference != asked:
        log.error("Asked for the table %s, Google told of %s: it is not used.", asked, api)
        return None
    return from_api(api)


@dataclass(frozen=True)
class Listed:
    """A table or an alias of the dataset, as a listing shows it."""

    id: str
    alias_of: str | None
    created: datetime.datetime | None


def listed(client: bigquery.Client) -> list[Listed]:
    """Every resource and alias of the dataset; tables whose names start with ``_`` are ours."""
    dataset = bigquery.DatasetReference(config.project(), config.dataset())
    with clients.told("listing the tables"):
        items = list(client.list_tables(dataset, **clients.budget(30)))
    ids = {item.table_id for item in items}
    found = []
    for item in items:
        if item.table_id.startswith("_"):
            continue
        alias_of = (item.labels or {}).get(ALIAS_LABEL)
        if item.table_type == "VIEW" and alias_of not in ids:
            # A label cannot hold every name; the view's description does.
            view = get_table(client, item.table_id)
            alias_of = view.alias_of if view else None
        found.append(Listed(item.table_id, alias_of, item.created))
    return found

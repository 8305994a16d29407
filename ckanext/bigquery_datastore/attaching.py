"""A table that is in BigQuery already becomes a resource's DataStore table, and ceases to be."""

from __future__ import annotations

from dataclasses import dataclass

from ckan.plugins import toolkit as tk

from ckanext.bigquery_datastore import clients, purging
from ckanext.bigquery_datastore.backend import attach as views
from ckanext.bigquery_datastore.backend import behind
from ckanext.bigquery_datastore.backend.behind import Behind
from ckanext.bigquery_datastore.backend.table.lookup import Table, get_table
from ckanext.bigquery_datastore.backend.write import lock
from ckanext.bigquery_datastore.errors import BadRequest


@dataclass(frozen=True)
class Attached:
    """``renamed`` are the columns that have another name in CKAN, ``behind`` tells of changes."""

    table: Table
    renamed: dict[str, str]
    behind: Behind


def attach(id: str, name: str) -> Attached:
    """Show the table of this name (project.dataset.table) as that of a resource, without a copy.

    :raises BadRequest: it cannot be shown, or the resource has a table already
    :raises PermissionMissing: the site's accounts may not do or read this; nothing is left behind
    """
    writer, reader = clients.bigquery_rw(), clients.bigquery_ro()
    with lock.writing(id):
        if (there := get_table(writer, id)) is not None:
            ends = "`ckan bigquery detach`" if there.attached else "datastore_delete"
            raise BadRequest(f"The resource {id} has a table already: {ends} takes it away.")
        source, api = views.found(writer, name)
        renamed = views.make(writer, reader, id, source, api)
        table = get_table(writer, id)
        assert table is not None
    _set_active(id, True)
    return Attached(table, renamed, behind.look(reader, table))


def detach(id: str) -> str:
    """Take the view away, and what was exported of it; the name of the table, which stays.

    :raises BadRequest: no table is attached to the resource
    """
    client = clients.bigquery_rw()
    with lock.writing(id):
        table = get_table(client, id)
        if table is None or not table.attached:
            raise BadRequest(f"No table is attached to the resource {id}. Nothing is removed.")
        views.drop_table(client, table)
    purging.purge([id])
    _set_active(id, False)
    return table.attached


def _set_active(id: str, is_active: bool) -> None:
    tk.get_action("resource_patch")(
        {"ignore_auth": True, "user": ""}, {"id": id, "datastore_active": is_active}
    )

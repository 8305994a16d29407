"""The one door to a table: from the name in a request to a resource, and from there to its table.

A name is a resource's exact id, or an alias: a view whose own metadata tell the resource. What it
stands for is authorised, and then that id alone is used. ``model.Resource.get`` has no place here:
where it finds no id it looks for a resource of that *name*, and anybody may name a resource after
someone else's table.

A table that belongs to no resource, or to a deleted one, is opened to nobody.
"""

from __future__ import annotations

import uuid

from ckan import model
from ckan.plugins import toolkit as tk
from ckan.types import Context
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend.table.lookup import Table, get_table, is_name


def resource(id: str) -> model.Resource | None:
    """The resource of exactly this id, deleted or not."""
    return model.Session.get(model.Resource, id) if is_name(id) else None


def is_live(id: str) -> bool:
    """Whether there is a resource of exactly this id that is not deleted, by now."""
    if not is_name(id):
        return False
    # Columns, not an object: that one may have been read before the request had to wait.
    state = model.Session.query(model.Resource.state).filter(model.Resource.id == id).scalar()
    return state is not None and state != model.State.DELETED


def is_shown(id: str) -> bool:
    """Whether the live resource of this id is one of an active dataset, by now."""
    query = model.Session.query(model.Package.state).join(
        model.Resource, model.Resource.package_id == model.Package.id
    )
    return is_live(id) and query.filter(model.Resource.id == id).scalar() == model.State.ACTIVE


def find_resource(name: str) -> str | None:
    """The id of the live resource that a name stands for."""
    return name if is_live(name) else _of_alias(name)


def find_table(client: bigquery.Client, id: str) -> Table | None:
    """The table of the live resource of exactly this id."""
    return own_table(client, id) if is_live(id) else None


def own_table(client: bigquery.Client, id: str) -> Table | None:
    """The table of this name, which is no alias. Whose it is has been looked at before."""
    table = get_table(client, id)
    return table if table is not None and table.alias_of is None else None


def find_readable(name: str) -> model.Resource:
    """The resource that a name stands for, where this visitor may read it.

    As long as somebody holds it, CKAN's session does, too, and its dataset: what asks for them
    again is answered without the database.

    The same steps are taken for what is not there and for what is not the visitor's, so that no
    clock tells them apart: Google is asked for both or for neither.

    :raises ObjectNotFound: there is nothing of this name, for this visitor
    """
    if found := _readable(name):
        return found
    id = _of_alias(name)
    if id is None or (found := _readable(id)) is None:
        raise tk.ObjectNotFound(f'Resource "{name}" was not found.')
    return found


def check_readable(id: str) -> None:
    """That this visitor may read a resource's table.

    :raises ObjectNotFound: the resource is not there (any more)
    :raises NotAuthorized: it is not for this visitor
    """
    if not is_live(id):
        raise tk.ObjectNotFound("Resource was not found.")
    _check_access(id)


def check_readable_by_sql(ids: list[str]) -> None:
    """The same for all tables of a query, by the auth function that CKAN has for that."""
    if not all(map(is_live, ids)):
        raise tk.ObjectNotFound("Resource was not found.")
    tk.check_access("datastore_search_sql", Context(table_names=ids), {})


def forget_what_was_read() -> None:
    """Before a wait: neither hold a connection to CKAN's database, nor trust what it said."""
    model.Session.rollback()
    # Outside of a transaction, as after a commit, the rollback forgets nothing: CKAN's session
    # keeps what it has committed.
    model.Session.expire_all()


def may_be_alias(name: str) -> bool:
    """No alias looks like an id that CKAN gives: those are never looked for among the aliases."""
    try:
        return str(uuid.UUID(name)) != name
    except ValueError:
        return is_name(name)


def _of_alias(name: str) -> str | None:
    view = get_table(clients.bigquery_ro(), name) if may_be_alias(name) else None
    id = view.alias_of if view is not None else None
    return id if id is not None and is_live(id) else None


def _readable(id: str) -> model.Resource | None:
    found = resource(id)
    if found is None or found.state == model.State.DELETED or found.package is None:
        return None
    try:
        _check_access(id)
    except (tk.NotAuthorized, tk.ObjectNotFound):
        return None
    return found


def _check_access(id: str) -> None:
    tk.check_access("datastore_search", {}, {"resource_id": id})

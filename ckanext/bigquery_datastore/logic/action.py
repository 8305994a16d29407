"""CKAN's actions on a table: no name that cannot be one; exports go, or are made anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ckan import authz
from ckan.logic import auth_audit_exempt
from ckan.plugins import toolkit as tk
from ckan.types import Action, Context, DataDict

from ckanext.bigquery_datastore import config, jobs, purging
from ckanext.bigquery_datastore.backend import BigQueryBackend
from ckanext.bigquery_datastore.backend.table.lookup import is_name


# Core asks no auth function for the tables that it lists as public: CKAN's audit would complain.
@auth_audit_exempt
@tk.side_effect_free
@tk.chained_action
def datastore_search(original: Action, context: Context, data_dict: DataDict) -> Any:
    _check_names(data_dict)
    with _told_of_depth():
        return original(context, data_dict)


datastore_info = datastore_search


@tk.chained_action
def datastore_create(original: Action, context: Context, data_dict: DataDict) -> Any:
    """Rows that are written are exported before anybody asks, where the site wants that."""
    _check_names(data_dict)
    has_rows = bool(data_dict.get("records"))
    result = original(context, data_dict)
    # Core answers nothing where it leaves the file to a loader.
    if config.is_active() and has_rows and result and not result.get("dry_run"):
        jobs.prepare_soon(result["resource_id"])
    return result


datastore_upsert = datastore_create


@tk.chained_action
def datastore_delete(original: Action, context: Context, data_dict: DataDict) -> Any:
    """What is deleted, a table or some of its rows, leaves no export behind."""
    _check_names(data_dict)
    id, is_whole = data_dict.get("resource_id"), data_dict.get("filters") is None
    try:
        with _told_of_depth():
            result = original(context, data_dict)
    except tk.ObjectNotFound:
        # CKAN 2.12.0 wants to see the resource first, so that `ckan datastore purge` could never
        # drop a table whose resource is gone, on any backend.
        if not (config.is_active() and is_whole and _is_orphan_of_sysadmin(context, id)):
            raise
        BigQueryBackend().drop_orphan(str(id))
        result = {"resource_id": id}
    if config.is_active():
        purging.purge([result["resource_id"]])
        if not is_whole:
            jobs.prepare_soon(result["resource_id"])
    return result


@contextmanager
def _told_of_depth() -> Iterator[None]:
    """Core reads filters that come as a text before anybody can look at how deep they are."""
    try:
        yield
    except RecursionError as err:
        sentence = "more levels of lists and objects than can be read"
        raise tk.ValidationError({"filters": [sentence]}) from err


def _check_names(data_dict: DataDict) -> None:
    """Before core asks its database, which breaks on some of what a request can hold."""
    if not config.is_active():
        return
    for key in ("resource_id", "id"):
        name = data_dict.get(key)
        if isinstance(name, str) and name and not is_name(name):
            raise tk.ObjectNotFound(f"There is no resource {name!r}.")


def _is_orphan_of_sysadmin(context: Context, id: str | None) -> bool:
    """Whether a table belongs to no resource, so that nobody but a sysadmin may drop it."""
    return bool(id and authz.is_sysadmin(context.get("user")) and BigQueryBackend().is_orphan(id))

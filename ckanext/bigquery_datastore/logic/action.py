"""CKAN's own actions, after which exports have to go, or may be made before anybody asks."""

from __future__ import annotations

from typing import Any

from ckan import authz, model
from ckan.plugins import toolkit as tk
from ckan.types import Action, Context, DataDict

from ckanext.bigquery_datastore import config, jobs, purging
from ckanext.bigquery_datastore.backend import BigQueryBackend


@tk.chained_action
def package_update(original: Action, context: Context, data_dict: DataDict) -> Any:
    """A dataset that is made private, by whichever action, leaves no export behind."""
    dataset = model.Package.get(data_dict.get("id") or data_dict.get("name"))
    was_public = dataset is not None and not dataset.private
    result = original(context, data_dict)
    if config.is_active() and dataset is not None and was_public and dataset.private:
        purging.purge(purging.resources_of([dataset.id]))
    return result


@tk.chained_action
def bulk_update_private(original: Action, context: Context, data_dict: DataDict) -> Any:
    """CKAN 2.11 does this without package_update."""
    result = original(context, data_dict)
    if config.is_active():
        datasets = [name for name in data_dict.get("datasets", ()) if purging.is_private(name)]
        purging.purge(purging.resources_of(datasets))
    return result


@tk.chained_action
def package_delete(original: Action, context: Context, data_dict: DataDict) -> Any:
    dataset = model.Package.get(data_dict.get("id"))
    result = original(context, data_dict)
    if config.is_active() and dataset is not None:
        purging.purge(purging.resources_of([dataset.id]))
    return result


@tk.chained_action
def resource_delete(original: Action, context: Context, data_dict: DataDict) -> Any:
    """Core drops the table only where the resource says that it has one."""
    result = original(context, data_dict)
    if config.is_active() and data_dict.get("id"):
        purging.purge([data_dict["id"]])
    return result


@tk.chained_action
def datastore_create(original: Action, context: Context, data_dict: DataDict) -> Any:
    has_rows = bool(data_dict.get("records"))
    result = original(context, data_dict)
    if config.is_active() and has_rows:
        jobs.prepare_soon(result["resource_id"])
    return result


@tk.chained_action
def datastore_upsert(original: Action, context: Context, data_dict: DataDict) -> Any:
    has_rows = bool(data_dict.get("records")) and not tk.asbool(data_dict.get("dry_run"))
    result = original(context, data_dict)
    if config.is_active() and has_rows:
        jobs.prepare_soon(result["resource_id"])
    return result


@tk.chained_action
def datastore_delete(original: Action, context: Context, data_dict: DataDict) -> Any:
    id, is_whole = data_dict.get("resource_id"), data_dict.get("filters") is None
    try:
        result = original(context, data_dict)
    except tk.ObjectNotFound:
        # CKAN 2.12.0 wants to see the resource first, so that `ckan datastore purge` could never
        # drop a table whose resource is gone, on any backend.
        if not (config.is_active() and is_whole and _is_orphan_of_sysadmin(context, id)):
            raise
        result = BigQueryBackend().delete(context, {"resource_id": id})
    if config.is_active() and id:
        if is_whole:
            purging.purge([id])
        else:
            jobs.prepare_soon(id)
    return result


def _is_orphan_of_sysadmin(context: Context, id: str | None) -> bool:
    """Whether a table belongs to no resource, so that nobody but a sysadmin may drop it."""
    if not id or model.Resource.get(id) is not None or not BigQueryBackend().resource_exists(id):
        return False
    return authz.is_sysadmin(context.get("user"))

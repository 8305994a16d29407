"""CKAN's own actions, after which exports have to go."""

from __future__ import annotations

from typing import Any

from ckan import model
from ckan.plugins import toolkit as tk
from ckan.types import Action, Context, DataDict

from ckanext.bigquery_datastore import config, purging


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
def datastore_delete(original: Action, context: Context, data_dict: DataDict) -> Any:
    is_whole = data_dict.get("filters") is None
    result = original(context, data_dict)
    if config.is_active() and is_whole and data_dict.get("resource_id"):
        purging.purge([data_dict["resource_id"]])
    return result

"""CKAN's actions on a table: no name that cannot be one; exports go, or are made anew. Loads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ckan import authz
from ckan.lib.navl.dictization_functions import DataError
from ckan.logic import auth_audit_exempt
from ckan.plugins import toolkit as tk
from ckan.types import Action, Context, DataDict

from ckanext.bigquery_datastore import config, jobs, loading, purging
from ckanext.bigquery_datastore.backend import BigQueryBackend, door, told_to_ckan
from ckanext.bigquery_datastore.backend.search import bounds
from ckanext.bigquery_datastore.backend.table.lookup import is_name
from ckanext.bigquery_datastore.errors import TOO_DEEP
from ckanext.bigquery_datastore.logic import schema

_SWITCHES = ("distinct", "plain", "include_total", "dry_run", "include_records")

# Of a name that is none: an answer is no longer for a longer question.
_TOLD = 100


# Core asks no auth function for the tables that it lists as public: CKAN's audit would complain.
@auth_audit_exempt
@tk.side_effect_free
@tk.chained_action
def datastore_search(original: Action, context: Context, data_dict: DataDict) -> Any:
    _check_names(data_dict)
    _check_numbers(data_dict)
    _check_sizes(data_dict)
    with _told_briefly():
        return original(context, data_dict)


datastore_info = datastore_search


@tk.chained_action
def datastore_create(original: Action, context: Context, data_dict: DataDict) -> Any:
    """Rows that are written are exported before anybody asks, where the site wants that."""
    _check_names(data_dict)
    _check_switches(data_dict)
    _check_records(data_dict)
    _check_others(data_dict)
    has_rows = bool(data_dict.get("records"))
    with _told_briefly("records"):
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
    _check_sizes(data_dict)
    id, is_whole = data_dict.get("resource_id"), data_dict.get("filters") is None
    try:
        with _told_briefly():
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


@tk.validate_action_data(schema.load_submit_schema)
def bigquery_load_submit(context: Context, data_dict: DataDict) -> dict[str, Any]:
    """Load a resource's file into the DataStore, in the background.

    :param resource_id: the id of the resource
    :param mode: "replace" (the table), "append" (to it), or "upsert" (rows of the same primary key
        change, others are added); where it is not given, what the resource's own field
        ``bigquery_load_mode`` says, else "replace"
    :param force: load the file although it has not changed since it was loaded
    :param sheet: the name of the sheet of a spreadsheet; the first one by default
    :param skip_bad_rows: how many rows that do not fit may be set aside; 0 by default: then nothing
        is loaded where one does not fit
    :param day_first: whether 31/12/2024 and 31.12.2024 are dates
    :param encoding, delimiter, null, format: of the file, where they shall not be found out
    :returns: the load as ``bigquery_load_status`` tells it, once it waits for a worker
    """
    _check_loads(data_dict)
    tk.check_access("bigquery_load_submit", context, data_dict)
    id, force = data_dict.pop("resource_id"), data_dict.pop("force", False)
    with told_to_ckan():
        resource = tk.get_action("resource_show")({"ignore_auth": True}, {"id": id})
        wish = dataclasses.replace(loading.wish_of(resource), **data_dict)
        return loading.told(id, loading.submit(id, wish, force=force))


@tk.side_effect_free
@tk.validate_action_data(schema.load_status_schema)
def bigquery_load_status(context: Context, data_dict: DataDict) -> dict[str, Any]:
    """How far the load of a resource is, or how the last one ended.

    :param resource_id: the id of the resource
    :returns: a dictionary with

        - ``resource_id``
        - ``state``: "none" (it was never asked for), "waiting" (for a worker), "loading",
          "complete", or "error"
        - ``step``: of a load at work "reading", "uploading", "loading", "typing" or "replacing"
        - ``progress``: of the step, from 0 to 1, or None where it is not known
        - ``mode``: "replace", "append" or "upsert"; None where nothing was asked for
        - ``requested``, ``started``, ``finished``: ISO times in UTC, or None
        - ``seconds``: from ``started`` to ``finished``, or to now
        - ``rows``: how many the file has brought
        - ``file``: ``name``, ``format``, ``bytes``, ``hash`` ("sha256:…") and ``sheet``, each of
          them None where it is not known
        - ``error``: a sentence, where the state is "error"
        - ``bad_row``: the first row that does not fit, ``line``, ``column`` and ``value``, or None
        - ``bad_rows_url``: where rows that were set aside are (csv; a signed URL), or None
        - ``log``: a list of ``time``, ``level`` ("INFO", "WARNING", "ERROR") and ``message``
        - ``datastore_active``: whether the resource has a table
    """
    _check_loads(data_dict)
    tk.check_access("bigquery_load_status", context, data_dict)
    with told_to_ckan():
        return loading.told(data_dict["resource_id"], loading.found(data_dict["resource_id"]))


def _check_loads(data_dict: DataDict) -> None:
    _check_names(data_dict)
    if not config.is_active():
        raise tk.ValidationError({"datastore": ["The DataStore of this site is not on BigQuery."]})
    if not door.is_live(data_dict["resource_id"]):
        # resource_update takes names, too, and what was deleted.
        raise tk.ObjectNotFound("Resource was not found.")


@contextmanager
def _told_briefly(key: str = "filters") -> Iterator[None]:
    """Core reads filters that come as a text before anybody can look at how deep they are.

    A list of objects that is none it repeats as it came, which may be long.
    """
    try:
        yield
    except RecursionError as err:
        raise tk.ValidationError({key: [TOO_DEEP]}) from err
    except DataError as err:
        raise tk.ValidationError({"message": [_shortened(err.error)]}) from err


def _check_numbers(data_dict: DataDict) -> None:
    """Before core's validators, which break on what no number can be made of."""
    if not config.is_active():
        return
    for key in ("limit", "offset"):
        value = data_dict.get(key)
        is_blank = isinstance(value, str) and value.isspace()
        is_endless = isinstance(value, float) and not math.isfinite(value)
        if is_blank or is_endless or isinstance(value, (list, dict)):
            raise tk.ValidationError({key: [tk._("Invalid integer")]})
    _check_switches(data_dict)


def _check_switches(data_dict: DataDict) -> None:
    """Before core's validator, which asks anything but a boolean for its letters (CKAN 2.11)."""
    if not config.is_active():
        return
    for key in _SWITCHES:
        if isinstance(data_dict.get(key), (list, dict, float)):
            raise tk.ValidationError({key: ["must be true or false"]})


def _check_sizes(data_dict: DataDict) -> None:
    """Before core's validators, which take their time with a million small things."""
    if config.is_active():
        with told_to_ckan():
            bounds.check(data_dict, config.search_characters())


def _check_others(data_dict: DataDict) -> None:
    if config.is_active():
        with told_to_ckan():
            bounds.check_others(data_dict, {"records"})


def _check_records(data_dict: DataDict) -> None:
    records = data_dict.get("records")
    if config.is_active() and records and not isinstance(records, Iterable):
        raise tk.ValidationError({"records": ["records must be a list of json objects"]})


def _check_names(data_dict: DataDict) -> None:
    """Before core asks its database, which breaks on some of what a request can hold."""
    if not config.is_active():
        return
    for key in ("resource_id", "id"):
        name = data_dict.get(key)
        if name and not (isinstance(name, str) and is_name(name)):
            raise tk.ObjectNotFound(f"There is no resource {_shortened(name)!r}.")


def _shortened(given: object) -> str:
    told = str(given)
    return told if len(told) <= _TOLD else f"{told[:_TOLD]}…"


def _is_orphan_of_sysadmin(context: Context, id: str | None) -> bool:
    """Whether a table belongs to no resource, so that nobody but a sysadmin may drop it."""
    return bool(id and authz.is_sysadmin(context.get("user")) and BigQueryBackend().is_orphan(id))

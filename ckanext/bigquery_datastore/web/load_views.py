"""The page of a resource's load, for who may change it: how it is, its log, and two buttons.

It asks the actions ``bigquery_load_status``, ``bigquery_load_submit`` and ``datastore_delete``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ckan.plugins import toolkit as tk
from flask import Blueprint, Response, jsonify
from werkzeug.exceptions import Forbidden, NotFound

from ckanext.bigquery_datastore import config, gist, others
from ckanext.bigquery_datastore.backend.table.lookup import is_name
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError
from ckanext.bigquery_datastore.web import load_words

bigquery_datastore_load = Blueprint("bigquery_datastore_load", __name__)

PAGE = "bigquery_datastore_load.page"
_PATH = "/dataset/<id>/datastore/<resource_id>"

# How often the page asks while a load runs; without JavaScript it is read anew, which costs more.
_ASK_SECONDS = 2
_REFRESH_SECONDS = 5


class Found(NamedTuple):
    """What a page is about, for somebody who may change it."""

    dataset: dict[str, Any]
    resource: dict[str, Any]


@bigquery_datastore_load.route(_PATH, methods=["GET"])
def page(id: str, resource_id: str) -> str:
    """The load as it is now."""
    found = _found(id, resource_id)
    return tk.render(
        "bigquery_datastore/load.html",
        {
            **_names(found),
            **_told(resource_id),
            "ask_seconds": _ASK_SECONDS,
            "refresh_seconds": _REFRESH_SECONDS,
        },
    )


@bigquery_datastore_load.route(f"{_PATH}/status")
def status(id: str, resource_id: str) -> Response:
    """The same for the page's script: a sentence, a share, and the part of the page below them."""
    _found(id, resource_id)
    told = _told(resource_id)
    load = told["load"]
    answer = jsonify(
        running=told["running"],
        said=told["said"],
        progress=load["progress"],
        datastore_active=load["datastore_active"],
        html=tk.render("bigquery_datastore/load_details.html", told),
    )
    answer.headers["Cache-Control"] = "private, no-store"
    return answer


@bigquery_datastore_load.route(_PATH, methods=["POST"])
def submit(id: str, resource_id: str) -> Response:
    """Load the file now, also where it has not changed since the last load."""
    found = _found(id, resource_id)
    try:
        tk.get_action("bigquery_load_submit")({}, {"resource_id": resource_id, "force": True})
        tk.h.flash_success(tk._("The file is going to be loaded."))
    except (tk.ValidationError, BigQueryDatastoreError) as err:
        tk.h.flash_error(_sentence(err))
    return _back(found)


@bigquery_datastore_load.route(f"{_PATH}/delete", methods=["GET"])
def ask_to_delete(id: str, resource_id: str) -> str:
    """The question before a deletion: scripts ask it in a dialogue, and come with a POST."""
    found = _found(id, resource_id)
    return tk.render("bigquery_datastore/load_delete.html", _names(found))


@bigquery_datastore_load.route(f"{_PATH}/delete", methods=["POST"])
def delete(id: str, resource_id: str) -> Response:
    """Delete the table; the file stays what it is."""
    found = _found(id, resource_id)
    try:
        tk.get_action("datastore_delete")({}, {"resource_id": resource_id, "force": True})
        tk.h.flash_success(tk._("The table and its data dictionary have been deleted."))
    except tk.ObjectNotFound:
        tk.h.flash_notice(tk._("This resource has no table in the DataStore."))
    except tk.NotAuthorized as err:
        raise Forbidden(tk._("You may not delete this table.")) from err
    except (tk.ValidationError, BigQueryDatastoreError) as err:
        tk.h.flash_error(_sentence(err))
    return _back(found)


@bigquery_datastore_load.before_app_request
def _in_place_of_others() -> str | None:
    """Where a loader that is held back has its page: links and bookmarks find ours there."""
    request = tk.request
    if request.method != "GET" or not request.endpoint:
        return None
    if request.endpoint not in {row.page for row in others.LOADERS}:
        return None
    if request.endpoint not in {row.page for row in others.held_back()}:
        return None
    return page(**(request.view_args or {}))


def _found(id: str, resource_id: str) -> Found:
    """The dataset and its resource, for who may change them; an answer of 404 or 403 otherwise."""
    # CKAN asks its database for any name, which takes none with a NUL.
    if not (config.is_active() and is_name(id) and is_name(resource_id)):
        raise NotFound
    try:
        dataset = tk.get_action("package_show")({}, {"id": id})
        resource = tk.get_action("resource_show")({}, {"id": resource_id})
    except (tk.ObjectNotFound, tk.NotAuthorized) as err:
        raise NotFound(tk._("Resource not found")) from err
    if resource["package_id"] != dataset["id"]:
        raise NotFound(tk._("Resource not found"))
    try:
        tk.check_access("resource_update", {}, {"id": resource_id})
    except tk.NotAuthorized as err:
        raise Forbidden(tk._("Only who may change the resource sees how it is loaded.")) from err
    return Found(dataset, resource)


def _names(found: Found) -> dict[str, Any]:
    """What core's templates of a resource's pages want."""
    return {
        "pkg": found.dataset,
        "pkg_dict": found.dataset,
        "resource": found.resource,
        "res": found.resource,
        "dataset_type": found.dataset["type"],
    }


def _told(resource_id: str) -> dict[str, Any]:
    load = tk.get_action("bigquery_load_status")({}, {"resource_id": resource_id})
    return {
        "load": load,
        "running": load_words.is_running(load),
        "said": load_words.sentence(load),
        "hint": load_words.hint(load),
    }


def _back(found: Found) -> Response:
    endpoint = others.page_of_ours(PAGE)
    return tk.redirect_to(endpoint, id=found.dataset["name"], resource_id=found.resource["id"])


def _sentence(err: Exception) -> str:
    # CKAN's ValidationError names a sentence for each parameter.
    summary = getattr(err, "error_summary", None)
    if summary:
        return " ".join(map(str, summary.values()))
    return gist.sentence(err) if isinstance(err, BigQueryDatastoreError) else str(err)

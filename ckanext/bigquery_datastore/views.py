"""The way of a download: validate, authorise, plan, advance, answer.

``/datastore/dump/<resource_id>`` is CKAN's own route. Ours is registered for the same rule; where
core's plugin comes first in ``ckan.plugins``, ours takes the place of its view function.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ckan import model
from ckan.lib.navl.dictization_functions import validate
from ckan.plugins import toolkit as tk
from ckan.types import Context, Schema
from ckanext.datastore.blueprint import dump as core_dump
from flask import Blueprint, Response
from flask.blueprints import BlueprintSetupState

from ckanext.bigquery_datastore import answers, config, downloads
from ckanext.bigquery_datastore.backend.table.lookup import resolve
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.errors import BadRequest, BigQueryDatastoreError
from ckanext.bigquery_datastore.logic.schema import dump_schema, dump_sql_schema

# What one look at the state may take from a poll.
STATUS_WAIT_SECONDS = 1

bigquery_datastore = Blueprint("bigquery_datastore", __name__)


@bigquery_datastore.route("/datastore/dump/<resource_id>")
def download(resource_id: str) -> Response | str:
    """A table as one file; see the README for parameters and answers."""
    if not config.is_active():
        return core_dump(resource_id)
    return _download(partial(_plan, resource_id))


@bigquery_datastore.route("/datastore/dump/<resource_id>/status")
def status(resource_id: str) -> Response:
    """How far the export of the same URL without ``/status`` is, as JSON."""
    if not config.is_active():
        tk.abort(404)
    return _status(partial(_plan, resource_id))


@bigquery_datastore.route("/datastore/dump_sql")
def download_sql() -> Response | str:
    """The result of a query as one file, where the site offers that."""
    return _download(_sql_plan)


@bigquery_datastore.route("/datastore/dump_sql/status")
def status_sql() -> Response:
    """How far the export of the same URL without ``/status`` is, as JSON."""
    return _status(_sql_plan)


def _download(make_plan: Callable[[], DumpPlan]) -> Response | str:
    try:
        plan = make_plan()
        if answers.is_unchanged(plan):
            return answers.unchanged(plan)
        if plan.is_page:
            return answers.page(plan, downloads.page(plan))
        state = downloads.engine().advance(plan, time.monotonic() + answers.patience())
        if isinstance(state, downloads.Ready):
            return answers.ready(plan, state)
        return answers.running(plan, state)
    except BigQueryDatastoreError as err:
        return answers.failed(err)


def _status(make_plan: Callable[[], DumpPlan]) -> Response:
    try:
        plan = make_plan()
        state = downloads.engine().advance(plan, time.monotonic() + STATUS_WAIT_SECONDS)
    except BigQueryDatastoreError as err:
        return answers.failed_status(err)
    return answers.status(plan, state)


def _plan(resource_id: str) -> DumpPlan:
    """What this request asks for, by someone who may."""
    params = _validated(dump_schema())
    plan = downloads.prepare(_readable(resource_id), params)
    return plan or tk.abort(404, tk._("DataStore resource not found"))


def _sql_plan() -> DumpPlan:
    """The same for a query; whoever may not read one of its tables is told of none of them."""
    if not config.is_active() or not config.dump_sql_enabled():
        tk.abort(404)
    params = _validated(dump_sql_schema())

    def check_access(resource_ids: list[str]) -> None:
        tk.check_access("datastore_search_sql", Context(table_names=resource_ids), {})

    try:
        return downloads.prepare_sql(params["sql"], params, check_access)
    except (tk.NotAuthorized, tk.ObjectNotFound):
        return tk.abort(404, tk._("DataStore resource not found"))


def _validated(schema: Schema) -> dict[str, Any]:
    try:
        params, errors = validate(tk.request.args.to_dict(), schema)
    except RecursionError as err:
        # Of Python's reader of JSON, which core's schema uses for filters.
        raise BadRequest("filters: more levels of lists and objects than can be read") from err
    if errors:
        raise BadRequest("\n".join(f"{name}: {' '.join(errors[name])}" for name in errors))
    return params


def _readable(resource_id: str) -> str:
    """The resource's real id; 404 for who may not read it, before any of its data is looked at."""
    if model.Resource.get(resource_id) is None:
        # Not by the backend's own method: its errors are those of CKAN's actions.
        resource_id = resolve(resource_id) or tk.abort(404, tk._("DataStore resource not found"))
    try:
        tk.check_access("datastore_search", {}, {"resource_id": resource_id})
    except (tk.NotAuthorized, tk.ObjectNotFound):
        tk.abort(404, tk._("DataStore resource not found"))
    return resource_id


@bigquery_datastore.record
def _take_over(setup: BlueprintSetupState) -> None:
    """Answer core's route also where core's blueprint was registered before this one."""
    if "datastore.dump" in setup.app.view_functions:
        setup.app.view_functions["datastore.dump"] = download

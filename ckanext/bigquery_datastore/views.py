"""The way of a download: validate, authorise, plan, advance, answer.

``/datastore/dump/<resource_id>`` is CKAN's own route. Ours is registered for the same rule; where
core's plugin comes first in ``ckan.plugins``, ours takes the place of its view function.
"""

from __future__ import annotations

import time

from ckan import model
from ckan.lib.navl.dictization_functions import validate
from ckan.plugins import toolkit as tk
from ckanext.datastore.backend import DatastoreBackend
from ckanext.datastore.blueprint import dump as core_dump
from flask import Blueprint, Response
from flask.blueprints import BlueprintSetupState

from ckanext.bigquery_datastore import answers, config, downloads
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.errors import BadRequest, BigQueryDatastoreError
from ckanext.bigquery_datastore.logic.schema import dump_schema

# A browser is shown that something happens; a script waits as long as the site lets it.
BROWSER_WAIT_SECONDS = 2

# What one look at the state may take from a poll.
STATUS_WAIT_SECONDS = 1

bigquery_datastore = Blueprint("bigquery_datastore", __name__)


@bigquery_datastore.route("/datastore/dump/<resource_id>")
def download(resource_id: str) -> Response | str:
    """A table as one file; see the README for parameters and answers."""
    if not config.is_active():
        return core_dump(resource_id)
    try:
        return _download(resource_id)
    except BigQueryDatastoreError as err:
        return answers.failed(err)


@bigquery_datastore.route("/datastore/dump/<resource_id>/status")
def status(resource_id: str) -> Response:
    """How far the export of the same URL without ``/status`` is, as JSON."""
    if not config.is_active():
        tk.abort(404)
    try:
        plan = _plan(resource_id)
        state = downloads.engine().advance(plan, time.monotonic() + STATUS_WAIT_SECONDS)
        return answers.status(plan, state)
    except BigQueryDatastoreError as err:
        return answers.failed_status(err)


def _download(resource_id: str) -> Response | str:
    plan = _plan(resource_id)
    if answers.is_unchanged(plan):
        return answers.unchanged(plan)
    if plan.is_page:
        return answers.page(plan, downloads.page(plan))
    wait = min(config.wait_seconds(), BROWSER_WAIT_SECONDS if answers.to_browser() else 300)
    if answers.wants_no_wait():
        wait = 0
    state = downloads.engine().advance(plan, time.monotonic() + wait)
    if isinstance(state, downloads.Ready):
        return answers.ready(plan, state)
    return answers.running(plan, state)


def _plan(resource_id: str) -> DumpPlan:
    """What this request asks for, by someone who may."""
    params, errors = validate(tk.request.args.to_dict(), dump_schema())
    if errors:
        raise BadRequest("\n".join(f"{name}: {' '.join(errors[name])}" for name in errors))
    real_id = _readable(resource_id)
    plan = downloads.prepare(real_id, params)
    return plan or tk.abort(404, tk._("DataStore resource not found"))


def _readable(resource_id: str) -> str:
    """The resource's real id; 404 for who may not read it, before any of its data is looked at."""
    if model.Resource.get(resource_id) is None:
        exists, real_id = DatastoreBackend.get_active_backend().resource_id_from_alias(resource_id)
        if not exists:
            tk.abort(404, tk._("DataStore resource not found"))
        resource_id = real_id or resource_id
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

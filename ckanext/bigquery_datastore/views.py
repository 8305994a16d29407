"""The way of a download: validate, authorise, plan, advance, answer.

``/datastore/dump/<resource_id>`` is CKAN's own route. Ours is registered for the same rule; where
core's plugin comes first in ``ckan.plugins``, ours takes the place of its view function.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeVar

from ckan.lib.navl.dictization_functions import validate
from ckan.plugins import toolkit as tk
from ckan.types import Schema
from ckanext.datastore.blueprint import dump as core_dump
from flask import Blueprint, Response
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import NotFound

from ckanext.bigquery_datastore import answers, config, downloads
from ckanext.bigquery_datastore.backend import door
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.errors import BadRequest, BigQueryDatastoreError
from ckanext.bigquery_datastore.logic.schema import dump_schema, dump_sql_schema

# What one look at the state may take from a poll.
STATUS_WAIT_SECONDS = 1

_T = TypeVar("_T")

bigquery_datastore = Blueprint("bigquery_datastore", __name__)


@dataclass(frozen=True)
class Asked:
    """What a request asks for, by someone who may; ``check_access`` raises where not any more."""

    plan: DumpPlan
    check_access: Callable[[], object]


@bigquery_datastore.route("/datastore/dump/<resource_id>")
def download(resource_id: str) -> Response | str:
    """A table as one file; see the README for parameters and answers."""
    if not config.is_active():
        return core_dump(resource_id)
    return _download(partial(_asked, resource_id))


@bigquery_datastore.route("/datastore/dump/<resource_id>/status")
def status(resource_id: str) -> Response:
    """How far the export of the same URL without ``/status`` is, as JSON."""
    if not config.is_active():
        tk.abort(404)
    return _status(partial(_asked, resource_id))


@bigquery_datastore.route("/datastore/dump_sql")
def download_sql() -> Response | str:
    """The result of a query as one file, where the site offers that."""
    return _download(_sql_asked)


@bigquery_datastore.route("/datastore/dump_sql/status")
def status_sql() -> Response:
    """How far the export of the same URL without ``/status`` is, as JSON."""
    return _status(_sql_asked)


def _download(ask: Callable[[], Asked]) -> Response | str:
    try:
        asked = ask()
        plan = asked.plan
        if answers.is_unchanged(plan):
            return answers.unchanged(plan)
        if plan.is_page:
            return answers.page(plan, _waited(asked, lambda: list(downloads.page(plan))))
        state = _waited(asked, lambda: _advanced(plan, answers.patience()))
        if isinstance(state, downloads.Ready):
            return answers.ready(plan, state)
        return answers.running(plan, state)
    except BigQueryDatastoreError as err:
        return answers.failed(err)


def _status(ask: Callable[[], Asked]) -> Response:
    try:
        asked = ask()
        state = _waited(asked, lambda: _advanced(asked.plan, STATUS_WAIT_SECONDS))
    except BigQueryDatastoreError as err:
        return answers.failed_status(err)
    return answers.status(asked.plan, state)


def _advanced(plan: DumpPlan, seconds: float) -> downloads.Ready | downloads.Running:
    return downloads.engine(plan).advance(plan, time.monotonic() + seconds)


def _waited(asked: Asked, work: Callable[[], _T]) -> _T:
    """What Google gives after a wait, in which the data may have been withdrawn.

    What is withdrawn after this look is deleted by that (see ``withdrawal``), file and links.
    """
    door.forget_what_was_read()
    found = work()
    try:
        asked.check_access()
    except (tk.NotAuthorized, tk.ObjectNotFound):
        _not_found()
    return found


def _asked(resource_id: str) -> Asked:
    """A table's file; nothing of the table is looked at for who may not read it."""
    params = _validated(dump_schema())
    try:
        id = door.find_readable(resource_id)
    except tk.ObjectNotFound:
        _not_found()
    plan = downloads.prepare(id, params) or _not_found()
    return Asked(plan, partial(door.check_readable, id))


def _sql_asked() -> Asked:
    """The same for a query; whoever may not read one of its tables is told of none of them."""
    if not config.is_active() or not config.dump_sql_enabled():
        tk.abort(404)
    params = _validated(dump_sql_schema())

    readable: list[str] = []

    def check_access(resource_ids: list[str]) -> None:
        door.check_readable_by_sql(resource_ids)
        readable[:] = resource_ids

    try:
        plan = downloads.prepare_sql(params["sql"], params, check_access)
    except (tk.NotAuthorized, tk.ObjectNotFound):
        _not_found()
    return Asked(plan, partial(door.check_readable_by_sql, readable))


def _validated(schema: Schema) -> dict[str, Any]:
    try:
        params, errors = validate(tk.request.args.to_dict(), schema)
    except RecursionError as err:
        # Of Python's reader of JSON, which core's schema uses for filters.
        raise BadRequest("filters: more levels of lists and objects than can be read") from err
    if errors:
        raise BadRequest("\n".join(f"{name}: {' '.join(errors[name])}" for name in errors))
    return params


def _not_found() -> NoReturn:
    """Not there, or not for this visitor: one answer, so that it does not tell which."""
    raise NotFound(tk._("DataStore resource not found"))


@bigquery_datastore.record
def _take_over(setup: BlueprintSetupState) -> None:
    """Answer core's route also where core's blueprint was registered before this one."""
    if "datastore.dump" in setup.app.view_functions:
        setup.app.view_functions["datastore.dump"] = download

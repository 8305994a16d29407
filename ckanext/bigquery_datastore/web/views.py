"""The way of a download: validate, authorise, plan, advance, answer.

``/datastore/dump/<resource_id>`` is CKAN's own route. Ours is registered for the same rule; where
core's plugin comes first in ``ckan.plugins``, ours takes the place of its view function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

from ckanext.bigquery_datastore import config, downloads, handover, places
from ckanext.bigquery_datastore.backend import door
from ckanext.bigquery_datastore.checking import served
from ckanext.bigquery_datastore.dump.formats import FORMATS
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.errors import (
    TOO_DEEP,
    BadRequest,
    BigQueryDatastoreError,
    Crowded,
)
from ckanext.bigquery_datastore.logic.schema import dump_schema, dump_sql_schema
from ckanext.bigquery_datastore.web import answers, menu

_T = TypeVar("_T")

bigquery_datastore = Blueprint("bigquery_datastore", __name__)

# A segment of a path as file systems bound it, in a language's characters.
_NAME = "string(maxlength=255)"


@dataclass(frozen=True)
class Asked:
    """What a request asks for, by someone who may; ``check_access`` raises where not any more."""

    plan: DumpPlan
    check_access: Callable[[], object]


@bigquery_datastore.route("/datastore/dump/<resource_id>")
def download(resource_id: str) -> Response | str:
    """A table as one file; see the README for parameters and answers."""
    # Formats of other plugins are written by core's view, page by page.
    if not config.is_active() or _is_of_plugin():
        return core_dump(resource_id)
    return _download(partial(_asked, resource_id))


@bigquery_datastore.route(f"/datastore/dump/<resource_id>/<{_NAME}:name>")
def download_named(resource_id: str, name: str) -> Response | str:
    """The same at an address that ends like a file's name, for tools that look at that.

    Of the name, the extension alone is looked at: it is the format.
    """
    if not config.is_active():
        tk.abort(404)
    return _download(partial(_asked, resource_id, name))


@bigquery_datastore.route(f"/datastore/dump/<resource_id>/<{_NAME}:name>/status")
def status_named(resource_id: str, name: str) -> Response:
    """How far the export of the same URL without ``/status`` is, as JSON."""
    if not config.is_active():
        tk.abort(404)
    return _status(partial(_asked, resource_id, name))


@bigquery_datastore.route("/datastore/dump/<resource_id>/status")
def status(resource_id: str) -> Response:
    """How far the export of the same URL without ``/status`` is, as JSON."""
    if not config.is_active():
        tk.abort(404)
    return _status(partial(_asked, resource_id))


@bigquery_datastore.route("/datastore/dump_places")
def places_taken() -> Response:
    """How many wait in this process, and may: for `ckan bigquery check` alone."""
    told = served.told() if config.is_active() else None
    return answers.told(told or _not_found())


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
            return answers.page(plan, _read(asked, lambda: list(downloads.page(plan))))
        return _file(asked)
    except BigQueryDatastoreError as err:
        return answers.failed(err)


def _file(asked: Asked) -> Response:
    plan = asked.plan
    handed = handover.of(tk.request.environ)
    if state := (handed.outcome_of(plan) if handed else None) or downloads.at_hand(plan):
        return _answer(plan, state)
    seconds = answers.patience()
    if not seconds:
        return _answer(plan, _begun(asked, is_crowded=places.WAITING.is_full))
    # Taken before it is known whether there is anything to wait for: of a crowd that comes at once,
    # those who find none do not begin exports in their threads, which takes some calls to Google.
    place = places.WAITING.find(is_back=answers.is_back())
    try:
        state = _begun(asked, is_crowded=place is None)
        if isinstance(state, downloads.Ready):
            return _answer(plan, state)
        if place is None:
            return answers.crowded(plan, state, places.WAITING.refusal())
        if handed:
            response = answers.running(plan, state)
            wait = downloads.wait_of(plan, state, seconds)
            response.headers.update(handed.leave(wait, place))
            place = None
            return response
        state = _read(asked, partial(downloads.wait, plan, state, seconds))
        if isinstance(state, downloads.Running) and answers.sends_back():
            places.WAITING.keep()
        return _answer(plan, state)
    finally:
        if place:
            place.leave()


def _answer(plan: DumpPlan, state: downloads.Ready | downloads.Running) -> Response:
    if isinstance(state, downloads.Running):
        return answers.running(plan, state)
    try:
        return answers.ready(plan, state)
    except Crowded as err:
        return answers.crowded(plan, state, err)


def _status(ask: Callable[[], Asked]) -> Response:
    try:
        asked = ask()
        state = downloads.at_hand(asked.plan) or _begun(asked, is_crowded=places.WAITING.is_full)
    except BigQueryDatastoreError as err:
        return answers.failed_status(err)
    return answers.status(asked.plan, state)


def _begun(asked: Asked, *, is_crowded: bool) -> downloads.Ready | downloads.Running:
    """The file, or how far it is; what is known of what was asked at once needs no second look."""
    plan = asked.plan
    if running := downloads.under_way(plan, is_crowded=is_crowded):
        return running if plan.is_at_once else _read(asked, lambda: running)
    return _read(asked, partial(downloads.begin, plan, is_crowded=is_crowded))


def _read(asked: Asked, work: Callable[[], _T]) -> _T:
    """What Google gives, after some time in which the data may have been withdrawn.

    What is withdrawn after this look is deleted by that (see ``withdrawal``), file and links.
    """
    door.forget_what_was_read()
    found = work()
    try:
        asked.check_access()
    except (tk.NotAuthorized, tk.ObjectNotFound):
        _not_found()
    return found


def _asked(resource_id: str, name: str | None = None) -> Asked:
    """A table's file; nothing of the table is looked at for who may not read it."""
    params = _validated(dump_schema(), {} if name is None else {"format": _format_of(name)})
    try:
        # Held to the end of this: the plan's name for the file is made of it and of its dataset.
        found = door.find_readable(resource_id)
    except tk.ObjectNotFound:
        _not_found()
    id = found.id
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


def _format_of(name: str) -> str:
    """The format that a file's name ends with: ``csv.gz`` of ``flights.csv.gz``.

    :raises BadRequest: it ends with none
    """
    found = [format_ for format_ in FORMATS if name.lower().endswith(f".{format_}")]
    if not found:
        raise BadRequest(f"name: it must end with one of .{', .'.join(FORMATS)}")
    return max(found, key=len)


def _validated(schema: Schema, fixed: Mapping[str, str] | None = None) -> dict[str, Any]:
    try:
        params, errors = validate({**tk.request.args.to_dict(), **(fixed or {})}, schema)
    except RecursionError as err:
        # Of Python's reader of JSON, which core's schema uses for filters.
        raise BadRequest(f"filters: {TOO_DEEP}") from err
    if errors:
        raise BadRequest("\n".join(f"{name}: {' '.join(errors[name])}" for name in errors))
    return params


def _is_of_plugin() -> bool:
    return bool(menu.of_plugins().get(tk.request.args.get("format", "")))


def _not_found() -> NoReturn:
    """Not there, or not for this visitor: one answer, so that it does not tell which."""
    raise NotFound(tk._("DataStore resource not found"))


@bigquery_datastore.app_errorhandler(RecursionError)
def _too_deep(err: RecursionError) -> Response:
    """CKAN's API reads a body as JSON, however deep, before any action can look at it."""
    action = (tk.request.view_args or {}).get("logic_function", "")
    if not (config.is_active() and action.startswith(("datastore_", "bigquery_"))):
        raise err
    return answers.unreadable(TOO_DEEP)


@bigquery_datastore.record
def _take_over(setup: BlueprintSetupState) -> None:
    """Answer core's route also where core's blueprint was registered before this one."""
    if "datastore.dump" in setup.app.view_functions:
        setup.app.view_functions["datastore.dump"] = download
    # In the first place, so that it is called last: CKAN's own hook writes the header anew.
    setup.app.after_request_funcs.setdefault(None, []).insert(0, _let_scripts_ask)


def _let_scripts_ask(response: Response) -> Response:
    """Let scripts of the origins that CKAN lets in ask for ranges of a file, and for changes."""
    is_ours = (
        tk.request.endpoint == "datastore.dump" or tk.request.blueprint == "bigquery_datastore"
    )
    return answers.open_to_scripts(response) if is_ours else response

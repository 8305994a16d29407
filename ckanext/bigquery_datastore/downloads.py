"""Downloads: from a request's parameters to the file, with the site's clients and options.

prepare  ->  DumpPlan          plan, formats      what is asked for, as SQL and names
begin(plan)  ->  Ready or Running, or an error    as far as it goes at once
wait(plan, state, seconds)     watch              the same after a wait
    engine                                        the export's life
    export                                        BigQuery's job
    storage, assemble, footers, sweep             Cloud Storage's objects
page(plan)                                        a few rows, at once
"""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ckan.plugins import toolkit as tk

from ckanext.bigquery_datastore import backend, clients, compat, config, handover, spending
from ckanext.bigquery_datastore.backend import behind, door
from ckanext.bigquery_datastore.backend.query import Refused
from ckanext.bigquery_datastore.backend.search.build import build
from ckanext.bigquery_datastore.backend.sql import results
from ckanext.bigquery_datastore.backend.sql.check import Checked
from ckanext.bigquery_datastore.backend.sql.select import select_of
from ckanext.bigquery_datastore.backend.table import lookup
from ckanext.bigquery_datastore.backend.table.lookup import TABLES
from ckanext.bigquery_datastore.backend.table.model import Column
from ckanext.bigquery_datastore.dump import export, formats, pages, sign, watch
from ckanext.bigquery_datastore.dump import plan as plans
from ckanext.bigquery_datastore.dump.engine import Engine
from ckanext.bigquery_datastore.dump.features import place_of
from ckanext.bigquery_datastore.dump.formats import Format
from ckanext.bigquery_datastore.dump.loop import shared_loop
from ckanext.bigquery_datastore.dump.objects import SQL
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.dump.state import ASSEMBLE, EXPORT, FILES, RUNNING, Ready, Running
from ckanext.bigquery_datastore.dump.storage import Store, in_background
from ckanext.bigquery_datastore.errors import BadRequest, OutsideError
from ckanext.bigquery_datastore.recent import Recent

__all__ = [
    "DumpPlan",
    "Ready",
    "Running",
    "at_hand",
    "basename_of",
    "begin",
    "engine",
    "formats_of",
    "page",
    "prepare",
    "prepare_sql",
    "store_rw",
    "under_way",
    "url_lifetime",
    "wait",
    "wait_of",
]

# Of a list of a resource's files, which is asked for while BigQuery tells of its table: how long
# it is waited for after that, and how long it may be. Without it, the file is asked for by name.
_FILES_SECONDS = 1.0
_FILES_MOST = 1000

# Plans of whole tables that were made a moment ago: their SQL and what names their files take a
# quarter of what a click on a file that is there costs beyond CKAN's own work.
_WHOLE: Recent[DumpPlan] = Recent(most_seconds=60)

# What decides which rows and columns a file has.
_SELECTING = ("filters", "q", "distinct", "plain", "language", "fields", "sort", "limit", "offset")


def prepare(resource_id: str, params: Mapping[str, Any]) -> DumpPlan | None:
    """The plan for validated parameters of the dump's schema; None where there is no table.

    :raises BadRequest: a filter, field or sort that the table does not have
    """
    asked = time.monotonic()
    format_ = _format(params["format"])
    is_page = _is_page(format_, params.get("limit"))
    known = TABLES.peek(resource_id)
    table = known or TABLES.get(
        resource_id,
        lambda: _table(resource_id) if is_page else _table_and_files(resource_id, format_),
    )
    if table is None:
        return None
    plan = plan_of(resource_id, table, params)
    return plan.again(asked, is_at_once=known is not None and not table.attached)


def plan_of(resource_id: str, table: lookup.Table, params: Mapping[str, Any]) -> DumpPlan:
    """The plan for a table that is known.

    :raises BadRequest: as ``prepare``
    """
    format_, limit = _format(params["format"]), params.get("limit")
    is_ordered_by_default = not params.get("sort")
    is_ordered = not is_ordered_by_default or config.order() != "none"
    revision, modified = _revision(table)
    given: dict[str, Any] = {
        "resource_id": resource_id,
        "table": table,
        "format": format_,
        "revision": revision,
        "modified": modified,
        "basename": basename_of(resource_id),
        "bom": bool(params["bom"]),
        "is_ordered_by_default": is_ordered_by_default,
        "is_whole": not any(params.get(name) for name in _SELECTING) and limit is None,
        "is_page": _is_page(format_, limit),
        "milliseconds": _milliseconds(),
    }

    def made() -> DumpPlan:
        select = build(
            table,
            {name: params.get(name) for name in _SELECTING},
            characters=config.search_characters(),
        )
        _check_places(format_, select.columns)
        if not is_ordered:
            select = replace(select, order_by=())
        return DumpPlan(**given, select=select, asked=time.monotonic())

    name = f"{resource_id} {format_.name} {is_ordered}"
    return _kept_whole(name, given, made) if given["is_whole"] else made()


def _kept_whole(name: str, given: Mapping[str, Any], make: Callable[[], DumpPlan]) -> DumpPlan:
    """The plan that was made of the same a moment ago, or is made now."""
    plan = _WHOLE.peek(name)
    if plan is None or any(getattr(plan, part) != value for part, value in given.items()):
        plan = make()
        _WHOLE.put(name, plan)
    return plan


def _is_page(format_: Format, limit: int | None) -> bool:
    return _fits_page(limit) and format_.can_be_page


def _format(name: str) -> Format:
    return formats.of_site(
        name,
        core_line_ends=config.core_line_ends(),
        parquet_compression=config.parquet_compression(),
    )


def _check_places(format_: Format, columns: Sequence[Column]) -> None:
    if format_.of_places and place_of(columns) is None:
        raise BadRequest(
            f"format: {format_.name} needs a column of type GEOGRAPHY, or two columns of numbers "
            "that the data dictionary labels as latitude and longitude."
        )


def _table(resource_id: str) -> lookup.Table | None:
    return door.find_table(clients.bigquery_ro(), resource_id)


def _table_and_files(resource_id: str, format_: Format) -> lookup.Table | None:
    """The table; at the same time, what is there of its files is looked up for the engine."""
    store = Store(clients.storage_ro(), config.export_bucket())
    family = plans.family(resource_id, format_)
    listing = in_background(lambda: store.list(family, _FILES_MOST))
    table = _table(resource_id)
    # A storage that is slow or down is the engine's matter.
    with suppress(TimeoutError, futures.TimeoutError, OutsideError):
        for found in listing.result(_FILES_SECONDS):
            if plans.is_whole_file(found):
                FILES.put(found.name, Ready((found,), metadata=found.metadata))
    return table


def prepare_sql(
    text: str, params: Mapping[str, Any], check_access: Callable[[list[str]], object]
) -> DumpPlan:
    """The plan for the result of a query from outside, current while no table in it changes.

    :param check_access: raises for resources (by id) that the visitor may not read
    :raises BadRequest: the query is not one SELECT of tables of the DataStore
    """
    asked = time.monotonic()
    checked = backend.check_sql(text, check_access)
    if not checked.tables:
        raise BadRequest("sql: the query reads no table.")
    try:
        columns = results.planned(clients.bigquery_ro(), checked)
    except Refused as err:
        raise BadRequest(f"sql: {err}") from err
    format_ = _format(params["format"])
    _check_places(format_, columns)
    revisions = {table.id: _revision(table) for table in checked.tables}
    latest, modified = max(revisions.values())
    # Each query is a family of its own (see sweep), and so is each state of its tables.
    digest = hashlib.sha256(repr((checked.sql(), sorted(revisions.items()))).encode()).hexdigest()
    plan = DumpPlan(
        resource_id=f"{SQL}{digest[:32]}",
        table=checked.tables[0],
        select=select_of(checked, columns),
        format=format_,
        revision=latest,
        modified=modified,
        basename="query",
        bom=bool(params["bom"]),
        is_ordered_by_default=False,
        is_whole=False,
        is_page=False,
        milliseconds=_milliseconds(),
        asked=asked,
    )
    _certify(checked, plan)
    return plan


def _certify(checked: Checked, plan: DumpPlan) -> None:
    """Let the read-only identity vouch for the SELECT that the read-write one will export.

    An export needs an identity that may write files, and the result of a query job can be read by
    nobody but who ran it (https://cloud.google.com/bigquery/docs/cached-results), so the SELECT
    itself cannot be run as the read-only one. What it does is proved before instead: BigQuery
    plans this text, to the last letter, as one statement of the read-only identity. That it finds
    one SELECT there, and all of its parts permitted to an identity that can only read, holds for
    the same text after ``EXPORT DATA … AS`` as well: the grammar has the same query there
    (https://cloud.google.com/bigquery/docs/reference/standard-sql/export-statements), and the
    words before it end with a line of their own.
    """
    try:
        results.certify(clients.bigquery_ro(), checked, plan.select_sql())
    except Refused as err:
        raise BadRequest(f"sql: {err}") from err


def engine(plan: DumpPlan) -> Engine:
    """The engine with this site's clients, and its limits for this kind of plan."""
    limits = export.Limits(
        config.maximum_bytes_billed(),
        config.job_timeout_seconds(),
        config.job_labels(),
        jobs_at_once=config.export_jobs(),
    )
    if plan.is_sql:
        seconds = min(config.dump_sql_timeout_seconds(), limits.timeout_seconds)
        limits = replace(limits, timeout_seconds=seconds, most_bytes=config.dump_sql_result_bytes())
    # Asked here: what is done aside, later, knows of no visitor.
    is_anonymous = spending.is_anonymous()
    return Engine(
        bigquery=clients.bigquery_rw(),
        ro=Store(clients.storage_ro(), config.export_bucket()),
        rw=store_rw(),
        limits=limits,
        url_lifetime=url_lifetime(),
        recent=FILES,
        may_begin=lambda plan: spending.check_export(plan.is_whole, is_anonymous),
        made=lambda plan, billed, size: spending.add_export(plan.is_whole, billed, size),
    )


def at_hand(plan: DumpPlan) -> Ready | None:
    """The file, where this process has heard of it and of its table a moment ago; asks nobody."""
    return FILES.peek(plan.target) if plan.is_at_once else None


def under_way(plan: DumpPlan, *, is_crowded: bool) -> Running | None:
    """How far its export was a moment ago, where this process knows; asks nobody.

    :param is_crowded: for one of many who cannot wait, some seconds ago is enough
    """
    return watch.seen(plan) or (RUNNING.peek(plan.target) if is_crowded else None)


def begin(plan: DumpPlan, *, is_crowded: bool = False) -> Ready | Running:
    """As far as an export goes at once; it is started where nobody has, and joined aside.

    :param is_crowded: for one of many who cannot wait: one look for the file, all else aside
    :raises BigQueryDatastoreError: it failed
    """
    by = engine(plan)
    if is_crowded:
        if ready := by.look_up(plan):
            return ready
        state = Running(EXPORT, None, dt.datetime.now(dt.timezone.utc))
        shared_loop().portal.call(watch.begin_unwaited, by, plan, state)
        return state
    state = by.begin(plan)
    if isinstance(state, Running):
        RUNNING.put(plan.target, state)
        if state.phase == ASSEMBLE:
            shared_loop().portal.call(watch.begin, by, plan, state)
    return state


def wait(plan: DumpPlan, state: Running, seconds: float) -> Ready | Running:
    """The file of an export that has begun, or how far it is after ``seconds``; holds the thread.

    :raises BigQueryDatastoreError: it failed
    """
    return shared_loop().portal.call(watch.wait, engine(plan), plan, state, seconds)


def wait_of(plan: DumpPlan, state: Running, seconds: float) -> handover.Wait:
    """The same for who waits in the loop itself."""
    return handover.Wait(engine(plan), plan, state, seconds)


def page(plan: DumpPlan) -> Iterator[bytes]:
    """The file of a plan whose rows fit into one page, written at once: in one call's time."""
    seconds = min(config.wait_seconds(), clients.CALL_SECONDS)
    return pages.page(clients.bigquery_ro(), plan, seconds)


def store_rw() -> Store:
    return Store(clients.storage_rw(), config.export_bucket())


def url_lifetime() -> dt.timedelta:
    return sign.lifetime()


def _revision(table: lookup.Table) -> tuple[str, dt.datetime]:
    if table.attached:
        changed = behind.recent(clients.bigquery_ro(), table).changed
        table = replace(table, rows_changed=changed)
    return plans.revision(
        table,
        dt.datetime.now(dt.timezone.utc),
        dt.timedelta(seconds=config.volatile_ttl_seconds()),
    )


def _milliseconds() -> bool:
    return compat.ms_in_timestamp()


def _fits_page(limit: int | None) -> bool:
    return limit is not None and limit <= tk.asint(tk.config.get("ckan.datastore.search.rows_max"))


def formats_of(table: lookup.Table | None) -> list[Format]:
    """The formats that a table is offered in; None: one of which nothing is known yet."""
    return formats.offered(table.user_columns if table else ())


def basename_of(resource_id: str) -> str:
    """How a resource's files are called, without their extension."""
    resource = door.resource(resource_id)
    dataset = resource.package.name if resource else ""
    name = (resource.name if resource else "") or resource_id
    return plans.basename(config.filename_template(), dataset, name, resource_id)

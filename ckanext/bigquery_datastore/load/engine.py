"""A load, step by step: each call takes the next one, in whatever process, and waits for nobody.

It keeps no state: which step is next is told by what the ones before it have made (``attempt``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as gexc
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend import job, query
from ckanext.bigquery_datastore.errors import BadRequest
from ckanext.bigquery_datastore.load import columns, placing, reading, typed
from ckanext.bigquery_datastore.load.attempt import JOB_SECONDS, Load
from ckanext.bigquery_datastore.load.faults import Unreadable
from ckanext.bigquery_datastore.load.reading import Read, Told
from ckanext.bigquery_datastore.load.source import Limits, Source
from ckanext.bigquery_datastore.load.typed import Typed


@dataclass(frozen=True)
class At:
    """The step that a load is at. ``waits``: a job of BigQuery's is at work on it."""

    step: str
    read: Read | None = None
    waits: bool = False


@dataclass(frozen=True)
class Ended:
    """A load that is over: how many rows the table was given, and what was set aside."""

    rows: int
    read: Read
    typed: Typed


def advance(
    load: Load,
    source: Source,
    limits: Limits,
    loaded: Any = None,
    told: Told = lambda step, progress: None,
    seconds: float = 0,
) -> At | Ended:
    """Take the next step.

    :param seconds: for how long a job of BigQuery's may be watched
    :raises Unchanged: the file is the one that was loaded last
    :raises BadRequest: it cannot be loaded so; the table is as it was
    :raises OutsideError: Google refuses, or does not answer
    """
    found = reading.found(load)
    if found is None:
        return At("loading", reading.read(load, source, limits, loaded, told))
    if found.rows == 0:
        raise BadRequest(f"{found.file['name']} has no rows. Nothing is replaced.")
    try:
        return _advance(load, found, told, seconds)
    except Unreadable as err:
        raise BadRequest(
            f"BigQuery cannot load the file: {columns.in_words(str(err), found.names)}. Nothing "
            "is replaced. The option --type COLUMN=TYPE gives a column another type."
        ) from err


def _advance(load: Load, read: Read, told: Told, seconds: float) -> At | Ended:
    known = load.noted("typed")
    if known is not None:
        told("replacing", None)
        done = Typed.of_json(known)
        return Ended(placing.place(load, read, done), read, done)
    if _loaded(load, read, seconds) is None:
        return At("loading", read, waits=True)
    told("typing", None)
    values: list[Any] = []
    jobs = [
        _asked(load, f"typing{number}", statement, seconds)
        for number, statement in enumerate(typed.statements(load, read))
    ]
    for each in jobs:
        if each is None:
            return At("typing", read, waits=True)
    for each in filter(None, jobs):
        with clients.told("the types of the columns"):
            (row,) = each.result(job_retry=None, **clients.budget())
        values += row.values()
    load.note("typed", typed.typed(load, read, values).to_json())
    return At("replacing", read)


def _loaded(load: Load, read: Read, seconds: float) -> Any | None:
    """The load job, once it has brought the rows into the table beside."""

    def submit(job_id: str) -> bigquery.LoadJob:
        return load.client.load_table_from_uri(
            read.uri,
            load.staging,
            job_id=job_id,
            job_config=typed.load_config(load, read),
            **clients.budget(),
        )

    try:
        with clients.told("loading the file", gexc.BadRequest, gexc.NotFound):
            return job.looked_at(load.client, submit, load.job("load"), seconds)
    except (gexc.BadRequest, gexc.NotFound) as err:
        raise Unreadable(query.message(err).rstrip(".")) from err


def _asked(load: Load, step: str, statement: str, seconds: float) -> Any | None:
    def submit(job_id: str) -> bigquery.QueryJob:
        return load.client.query(
            statement,
            job_id=job_id,
            job_config=query.job_config((), JOB_SECONDS, query.WRITE.limit()),
            job_retry=None,
            **clients.budget(),
        )

    with clients.told("the types of the columns"):
        return job.looked_at(load.client, submit, load.job(step), seconds)

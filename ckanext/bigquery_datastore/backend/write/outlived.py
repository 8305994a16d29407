"""Changes whose process was killed while BigQuery goes on with them: who writes next waits.

The lock of a table ends with the process that holds it, a job of BigQuery's does not. INSERTs do
not exclude one another (https://cloud.google.com/bigquery/docs/data-manipulation-language#dml-limitations),
so whoever repeats a change meanwhile sees none of its rows, and would write them a second time.

So the name of a job is noted before it is sent, and forgotten when its end is known. The note is in
CKAN's Redis, where it costs no request to Google; while that is silent, changes go on without one.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from google.cloud import bigquery

from ckanext.bigquery_datastore import clients, counters
from ckanext.bigquery_datastore.backend import job, query
from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.errors import Busy, NotReachable

# For how long the next writer waits. BigQuery ends a job after the time that it was given.
WAIT_SECONDS = 30
KEPT_SECONDS = 6 * 60 * 60

# How the names of jobs begin that nobody sends again once their process has gone.
_ONCE = "ckan_change_"


def change(
    client: bigquery.Client, table_id: str, sql: str, parameters: Iterable[Parameter] = ()
) -> int:
    """Run a statement that changes a table's rows; see ``query.write``. Holds ``lock.writing``."""
    name = f"{_ONCE}{uuid.uuid4().hex}"
    with noted(table_id, name):
        return query.write(client, sql, parameters, job_id=name)


@contextmanager
def noted(table_id: str, name: str) -> Iterator[None]:
    """While a job of this name may be changing the table. Holds ``lock.writing``."""
    counters.note(_key(table_id), name, KEPT_SECONDS)
    try:
        yield
    except NotReachable:
        raise  # its end is not known
    except Exception:
        counters.forget(_key(table_id))
        raise
    counters.forget(_key(table_id))


def wait(table_id: str, mine: str | None = None) -> None:
    """That no change of a table is being made that a killed process has begun, but ``mine``.

    :raises Busy: one is, for longer than ``WAIT_SECONDS``
    """
    name = counters.noted(_key(table_id))
    if name in (None, mine):
        return
    client, deadline = clients.bigquery_rw(), time.monotonic() + WAIT_SECONDS
    look = job.settled if name.startswith(_ONCE) else job.has_succeeded
    try:
        with clients.told("a change of data"):
            look(client, name, deadline)
    except Busy as err:
        raise Busy(
            "BigQuery is still making a change of this table whose process has ended. Nothing was "
            "changed by this one. Try again in a moment."
        ) from err
    counters.forget(_key(table_id))


def _key(table_id: str) -> str:
    return f"changing:{table_id}"

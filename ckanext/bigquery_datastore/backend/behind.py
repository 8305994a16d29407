"""When the rows of an attached table were last changed: asked of the tables behind its view.

BigQuery keeps no such time for a view. Which tables it reads is told by its text, and by those of
the views in it; where there are any of these, a dry run, which is free, must name the same ones.
Each is asked for its metadata with the read-only identity: what that may not see is not known.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from google.api_core import exceptions as gexc
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.table import viewed
from ckanext.bigquery_datastore.backend.table.lookup import Table
from ckanext.bigquery_datastore.recent import Recent

#: Of views that read more, the time of the last change is not asked for.
MOST_TABLES = 20

_VIEW = "VIEW"
# A snapshot never changes; of other kinds BigQuery does not tell when their rows did.
_TELLING = ("TABLE", "SNAPSHOT")


@dataclass(frozen=True)
class Behind:
    """``changed`` is None where it cannot be known, and ``reason`` says why."""

    changed: dt.datetime | None = None
    reason: str = ""


class _Unknown(Exception):
    """Why the time of the last change is not known."""


#: By the view's id and etag.
_KNOWN: Recent[Behind] = Recent()


def recent(client: bigquery.Client, table: Table) -> Behind:
    """What this process heard within ``metadata_ttl_seconds``, or hears now; see ``look``."""
    found = _KNOWN.get(f"{table.id} {table.etag}", lambda: look(client, table))
    return found or Behind()


def look(client: bigquery.Client, table: Table) -> Behind:
    """When the rows of an attached table, or what is shown of them, were last changed.

    :raises OutsideError: Google does not answer
    """
    try:
        found = list(_behind(client, table.full_id))
        read = {str(each.reference) for each in found}
        if sum(each.table_type == _VIEW for each in found) > 1:
            _check_told(client, table, read)
    except _Unknown as err:
        return Behind(reason=str(err))
    return Behind(max(each.modified for each in found if each.modified is not None))


def _behind(client: bigquery.Client, name: str) -> Iterator[bigquery.Table]:
    """The view, and all that it reads, each once.

    :raises _Unknown: there is one whose rows may change unseen
    """
    waiting, met = [name], {name}
    while waiting:
        found = _metadata(client, waiting.pop())
        yield found
        if found.table_type != _VIEW:
            _check_telling(found)
            continue
        text = "" if found.view_use_legacy_sql else found.view_query or ""
        read = viewed.named(text, found.project)
        if read is None:
            raise _Unknown(f"what {found} reads, or when it gives other rows, is not to be told")
        waiting += sorted(read - met)
        met |= read
        if len(met) > MOST_TABLES:
            raise _Unknown(f"it reads more than {MOST_TABLES} tables")


def _metadata(client: bigquery.Client, name: str) -> bigquery.Table:
    with clients.told(f"reading the table {name}", gexc.Forbidden, gexc.NotFound, gexc.BadRequest):
        try:
            return client.get_table(name, **clients.budget())
        except (gexc.NotFound, gexc.BadRequest, gexc.Forbidden) as err:
            raise _Unknown(
                f"the read-only account may not see when {name} was changed "
                "(roles/bigquery.metadataViewer on its dataset lets it)"
            ) from err


def _check_telling(table: bigquery.Table) -> None:
    if table.table_type not in _TELLING or table.modified is None:
        raise _Unknown(f"BigQuery does not tell when the rows of {table} are changed")
    if table.streaming_buffer is not None:
        raise _Unknown(f"rows are streamed into {table}")
    by_time = table.time_partitioning
    if by_time is not None and by_time.expiration_ms:
        raise _Unknown(f"partitions of {table} expire")


def _check_told(client: bigquery.Client, table: Table, read: set[str]) -> None:
    """That BigQuery, too, knows of no other table, and of no function that somebody made."""
    job = query.dry_run(client, f"SELECT * FROM {table.sql_name}")
    told = {f"{one.project}.{one.dataset_id}.{one.table_id}" for one in job.referenced_tables or ()}
    # See backend.sql.results: the client library has no property for it.
    routines = job._properties.get("statistics", {}).get("query", {}).get("referencedRoutines")
    if told - read or routines:
        raise _Unknown("it reads something that its text does not name, or calls a function")

"""A file becomes a DataStore table, in one step, or nothing does.

Its rows are numbered on their way to the bucket (``reading``). A load job puts them into a table
beside the resource's own, where one query tells what the columns of a CSV are, and whether each
text fits its column (``typed``). Only then the table's writers are asked to wait, and one statement
replaces it, its rows and its columns, with the metadata that it keeps (``placing``). Each step is
short, and any process can take the next one (``engine``).
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from google.cloud import bigquery

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend.table.lookup import reference
from ckanext.bigquery_datastore.backend.table.types import Type
from ckanext.bigquery_datastore.dump.objects import StoredObject
from ckanext.bigquery_datastore.dump.storage import Store
from ckanext.bigquery_datastore.load import attempt, engine
from ckanext.bigquery_datastore.load.attempt import BAD_ROWS, ROOT, STAGING_PREFIX, Load
from ckanext.bigquery_datastore.load.columns import name_of
from ckanext.bigquery_datastore.load.engine import At, Ended
from ckanext.bigquery_datastore.load.kinds import Kind, kind_of_name
from ckanext.bigquery_datastore.load.reading import Told
from ckanext.bigquery_datastore.load.source import Limits, LocalFile, Source
from ckanext.bigquery_datastore.load.wish import Wish

__all__ = [
    "BAD_ROWS",
    "ROOT",
    "STAGING_PREFIX",
    "Load",
    "finished",
    "load",
    "sweep",
    "tidy",
]

# A load has at most two jobs and two statements of six hours after its last object.
LOAD_LIFETIME = dt.timedelta(hours=24)

#: For how long rows that were set aside can be downloaded.
BAD_ROWS_LIFETIME = dt.timedelta(days=30)

_LOOK_SECONDS = 5.0


def load(
    client: bigquery.Client,
    store: Store,
    id: str,
    path: Path,
    kind: Kind | None = None,
    *,
    wish: Wish | None = None,
    types: Mapping[str, Type] | None = None,
    labels: Mapping[str, str] | None = None,
) -> int:
    """Bring the rows of a file of this machine into the resource's table; how many those are.

    :param types: types by column name; a column that the table has already keeps its type, and
        those of the others are inferred from all rows
    :raises BadRequest: the file cannot be read so, or has not what the table's key needs; the
        table is as it was
    """
    named = {name: name_of(type_) for name, type_ in (types or {}).items()}
    asked = wish or Wish(types=named)
    work = Load(client, store, id, uuid.uuid4().hex, asked, labels or {})
    file = LocalFile(path, path.name, kind or kind_of_name(path.name))
    return finished(work, file, Limits()).rows


def finished(
    work: Load,
    source: Source,
    limits: Limits,
    told: Told = lambda step, progress: None,
    at: Callable[[At], object] = lambda at: None,
) -> Ended:
    """The same, of any source: every step, one after the other. Nothing is left behind."""
    sweep(work.client, work.store)
    try:
        while True:
            now = engine.advance(work, source, limits, told=told, seconds=_LOOK_SECONDS)
            if isinstance(now, Ended):
                return now
            at(now)
    finally:
        tidy(work)


def tidy(work: Load) -> None:
    """Take away what a load has made on its way; what is left is swept by a later one."""
    with clients.tidied_up(f"gs://{work.store.bucket}/{work.folder}"):
        work.store.delete(work.store.list(work.folder))
    with clients.tidied_up(str(work.staging)):
        work.client.delete_table(work.staging, not_found_ok=True, **clients.budget())


def sweep(client: bigquery.Client, store: Store) -> int:
    """Delete what loads that were killed have left; how many objects and tables."""
    until = dt.datetime.now(dt.timezone.utc) - LOAD_LIFETIME
    folders: dict[str, list[StoredObject]] = {}
    for found in store.list(attempt.ROOT):
        folders.setdefault(found.name.split("/")[1], []).append(found)
    deleted = sum(
        store.delete(objects)
        for objects in folders.values()
        if max(found.created for found in objects) < until
    )
    old = dt.datetime.now(dt.timezone.utc) - BAD_ROWS_LIFETIME
    deleted += store.delete(found for found in store.list(BAD_ROWS) if found.created < old)
    place = reference(STAGING_PREFIX)
    with clients.told("listing the tables"):
        for item in client.list_tables(
            bigquery.DatasetReference(place.project, place.dataset_id), **clients.budget(30)
        ):
            if item.table_id.startswith(STAGING_PREFIX) and item.created and item.created < until:
                client.delete_table(item.reference, not_found_ok=True, **clients.budget())
                deleted += 1
    return deleted

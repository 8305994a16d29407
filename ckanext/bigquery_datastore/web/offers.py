"""What there is of a table: rows, columns, last change, and the files that exist already."""

from __future__ import annotations

import base64
import datetime as dt
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from ckanext.bigquery_datastore import clients, config, downloads
from ckanext.bigquery_datastore.backend.table.lookup import Table
from ckanext.bigquery_datastore.dump.objects import StoredObject
from ckanext.bigquery_datastore.dump.plan import DumpPlan, is_whole_file
from ckanext.bigquery_datastore.dump.storage import Store, side_by_side
from ckanext.bigquery_datastore.errors import OutsideError
from ckanext.bigquery_datastore.recent import Recent

# Sizes are worth this many seconds of waiting for Cloud Storage, and no more.
_SECONDS = 2.0


@dataclass(frozen=True)
class File:
    """A whole table in one format. ``found`` is the object that holds it, once there is one."""

    plan: DumpPlan
    found: StoredObject | None

    @property
    def size(self) -> int | None:
        """Bytes; None where there is no file yet, or it is written anew for each visitor."""
        return self.found.size if self.found else None

    @property
    def crc32c(self) -> str | None:
        """The checksum of those bytes in hexadecimal digits."""
        return base64.b64decode(self.found.crc32c).hex() if self.found else None


@dataclass(frozen=True)
class Offer:
    """A table as it is now. ``files``: one a format, as its plan names it."""

    table: Table
    modified: dt.datetime
    files: Mapping[str, File]

    @property
    def rows(self) -> int | None:
        """None where BigQuery does not say without a query."""
        return rows_of(self.table)


# Which files there are, by name in the bucket, as this process heard of them a moment ago.
_THERE: Recent[dict[str, StoredObject]] = Recent()


def of(resource_id: str, *, marked: bool = False) -> Offer | None:
    """What there is of a resource's table; None where it has none. Who may know has been asked.

    One free request for the table, and one a format for its file, side by side, unless this
    process has heard of them within ``metadata_ttl_seconds``.

    :param marked: with the byte order mark that spreadsheets want, where a format has one
    :raises BigQueryDatastoreError: BigQuery refuses, or does not answer
    """
    first = downloads.prepare(resource_id, {"format": "csv", "bom": marked})
    if first is None:
        return None
    plans: dict[str, DumpPlan] = {}
    for format_ in downloads.formats_of(first.table):
        params = {"format": format_.name, "bom": marked and format_.bom}
        if (plan := downloads.prepare(resource_id, params)) is None:
            return None
        plans[format_.name] = plan
    there: dict[str, StoredObject] = {}
    # A storage that is slow or down: then there are no sizes.
    with suppress(OutsideError):
        key = f"{first.prefix}{marked}"
        there = _THERE.get(key, lambda: _look(list(plans.values()))) or {}
    files = {name: File(plan, there.get(plan.target)) for name, plan in plans.items()}
    return Offer(first.table, first.modified, files)


def rows_of(table: Table) -> int | None:
    return None if table.kind != "TABLE" or table.streaming_buffer else table.num_rows


def _look(plans: list[DumpPlan]) -> dict[str, StoredObject]:
    store = Store(clients.storage_ro(), config.export_bucket())
    store = store.within(time.monotonic() + _SECONDS)
    targets = [plan.target for plan in plans if plan.format.rewrite is None]
    found = side_by_side(store.find, targets)
    return {each.name: each for each in found if each is not None and is_whole_file(each)}

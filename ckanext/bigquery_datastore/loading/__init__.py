"""Loads in the background: a resource's file becomes its table, step by step, by whatever worker.

``submit`` writes the wish down and puts a short job into the queue; ``told`` says how far it is.
All state is in ``task_status``, in BigQuery and in the bucket.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace
from typing import Any

from ckanext.bigquery_datastore import config, downloads
from ckanext.bigquery_datastore.backend import door
from ckanext.bigquery_datastore.dump import sign
from ckanext.bigquery_datastore.load.wish import Wish
from ckanext.bigquery_datastore.loading import status, steps
from ckanext.bigquery_datastore.loading.status import Status

log = logging.getLogger(__name__)

FILE_KEYS = ("name", "format", "bytes", "hash", "sheet")


def submit(resource_id: str, wish: Wish, *, force: bool = False) -> Status:
    """Ask for a load of the resource's file. One that waits takes the newer wish over; behind one
    that is at work another one waits, which will find the file as it is then."""

    def asked(before: Status) -> Status:
        if before.state == "waiting":
            return replace(before, wish=wish.to_json(), force=before.force or force)
        if before.state == "loading":
            return replace(before, again={"wish": wish.to_json(), "force": force})
        return fresh(before, wish.to_json(), force)

    found = status.change(resource_id, asked)
    steps.enqueue(resource_id, found.attempt)
    return found


def fresh(before: Status, wish: dict[str, Any], force: bool) -> Status:
    """A load that waits, of a resource whose last one is over."""
    return Status(
        state="waiting",
        attempt=uuid.uuid4().hex,
        wish=wish,
        force=force,
        requested=status.now(),
        bad_rows=before.bad_rows,
        loaded=before.loaded,
    ).told("The load waits for a worker: ckan jobs worker bigquery_loads")


def wish_of(resource: dict[str, Any]) -> Wish:
    """What a resource says of its loads: its extras ``bigquery_load_mode`` and
    ``bigquery_load_sheet``, else the site's options."""
    return Wish(
        mode=str(resource.get("bigquery_load_mode") or "replace"),
        sheet=resource.get("bigquery_load_sheet") or None,
        day_first=config.load_day_first(),
    )


def found(resource_id: str) -> Status:
    """How far a resource's load is."""
    return status.find(resource_id)


def told(resource_id: str, found: Status) -> dict[str, Any]:
    """The same, as ``bigquery_load_status`` answers."""
    known = door.resource(resource_id)
    return {
        "resource_id": resource_id,
        "state": found.state,
        "step": found.step if found.state == "loading" else None,
        "progress": found.progress if found.state == "loading" else None,
        "mode": found.wish.get("mode"),
        "requested": found.requested,
        "started": found.started,
        "finished": found.finished,
        "seconds": found.seconds,
        "rows": found.rows,
        "file": {name: found.file.get(name) for name in FILE_KEYS},
        "error": found.error,
        "bad_row": dict(found.bad_row) if found.bad_row else None,
        "bad_rows_url": _bad_rows_url(found),
        "log": [dict(line) for line in found.log],
        "datastore_active": bool(known and (known.extras or {}).get("datastore_active")),
    }


def _bad_rows_url(found: Status) -> str | None:
    if not found.bad_rows:
        return None
    store = downloads.store_rw()
    stored = store.find(found.bad_rows)
    if stored is None:
        return None
    return sign.signed_url(store, stored, "GET", 'attachment; filename="bad-rows.csv"', "text/csv")

"""Loads in the background: a resource's file becomes its table, step by step, by whatever worker.

``submit`` writes the wish down and puts a short job into the queue; ``told`` says how far it is.
All state is in ``task_status``, in BigQuery and in the bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ckanext.bigquery_datastore import config, downloads
from ckanext.bigquery_datastore.backend import door
from ckanext.bigquery_datastore.dump import sign
from ckanext.bigquery_datastore.errors import BadRequest, Busy, OutsideError
from ckanext.bigquery_datastore.load.reading import Told
from ckanext.bigquery_datastore.load.source import Source
from ckanext.bigquery_datastore.load.wish import MODES, Wish
from ckanext.bigquery_datastore.loading import status, steps
from ckanext.bigquery_datastore.loading.after import resource_of
from ckanext.bigquery_datastore.loading.status import Status

__all__ = ["by_hand", "found", "resource_of", "submit", "told", "wish_of"]

FILE_KEYS = ("name", "format", "bytes", "hash", "sheet")


def submit(resource_id: str, wish: Wish, *, force: bool = False) -> Status:
    """Ask for a load of the resource's file. One that waits takes the newer wish over; behind one
    that is at work another one waits, which will find the file as it is then."""

    def asked(before: Status) -> Status:
        if before.state == "waiting":
            return replace(before, wish=wish.to_json(), force=before.force or force)
        if before.state == "loading":
            return replace(before, again={"wish": wish.to_json(), "force": force})
        return status.fresh(before, wish.to_json(), force)

    steps.revived(resource_id, status.find(resource_id))
    found = status.change(resource_id, asked)
    if found.state == "waiting":
        steps.enqueue(resource_id, found.attempt)
    return found


def by_hand(
    resource_id: str,
    source: Source,
    wish: Wish,
    *,
    force: bool = True,
    told: Told = lambda step, progress: None,
) -> Status:
    """Load a file here and now: the same steps, one after the other; the load after its end.

    :param force: load it, too, where it is the one that was loaded last
    :raises Busy: another load of the resource is at work
    :raises BigQueryDatastoreError: why nothing was loaded
    """
    with status.at_work(resource_id) as is_ours:
        if not is_ours:
            raise Busy(f"Another load of {resource_id} is at work. Try again in a moment.")
        now = status.change(
            resource_id,
            lambda before: replace(
                status.fresh(before, wish.to_json(), force), by_hand=True, log=()
            ),
        )
        attempt = now.attempt
        while now.is_active and now.attempt == attempt:
            now = steps.advance(resource_id, now, source, told)
        if now.is_active:
            # Somebody has asked for another one meanwhile.
            steps.enqueue(resource_id, now.attempt)
        return now


def wish_of(resource: Mapping[str, Any]) -> Wish:
    """What a resource says of its loads: its extras ``bigquery_load_mode`` and
    ``bigquery_load_sheet``, else the site's options.

    :raises BadRequest: there is no such mode
    """
    mode = str(resource.get("bigquery_load_mode") or "replace")
    if mode not in MODES:
        raise BadRequest(f"bigquery_load_mode: {mode!r} is none of {', '.join(MODES)}.")
    sheet = str(resource.get("bigquery_load_sheet") or "") or None
    return Wish(mode=mode, sheet=sheet, day_first=config.load_day_first())


def found(resource_id: str) -> Status:
    """How far a resource's load is; a step that was lost with its worker is put into the queue."""
    return steps.revived(resource_id, status.find(resource_id))


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
    # Pages of CKAN ask for a load's status: they do not depend on Google.
    with suppress(OutsideError):
        stored = store.find(found.bad_rows)
        if stored is None:
            return None
        return sign.signed_url(
            store, stored, "GET", 'attachment; filename="bad-rows.csv"', "text/csv"
        )
    return None

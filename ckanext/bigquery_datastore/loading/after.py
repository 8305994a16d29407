"""What is to be done once a table has its rows: the resource says so, and is shown so."""

from __future__ import annotations

from typing import Any

from ckan.plugins import toolkit as tk

from ckanext.bigquery_datastore import clients, downloads, jobs
from ckanext.bigquery_datastore.load.engine import Ended


def resource_of(resource_id: str) -> dict[str, Any]:
    """The resource as everybody's tools see it."""
    return tk.get_action("resource_show")(_context(), {"id": resource_id})


def ended(resource_id: str) -> None:
    """Tell CKAN that the resource has a table; views of tables appear, and files are prepared."""
    resource = resource_of(resource_id)
    if not resource.get("datastore_active"):
        resource = tk.get_action("resource_patch")(
            _context(), {"id": resource_id, "datastore_active": True}
        )
    tk.get_action("resource_create_default_resource_views")(
        _context(), {"resource": resource, "create_datastore_views": True}
    )
    jobs.prepare_soon(resource_id)


def forget_bad_rows(resource_id: str, before: str | None, now: str | None) -> None:
    """Delete the rows that an earlier load has set aside."""
    if before and before != now:
        store = downloads.store_rw()
        with clients.tidied_up(before):
            store.delete(store.list(before))


def notes_of(done: Ended) -> list[tuple[str, str]]:
    """Sentences for the log, each with its level."""
    told = [(f"{done.rows:,} rows were loaded.", "INFO")]
    if done.typed.bad:
        sentence = f"{done.typed.bad:,} rows do not fit, and were set aside."
        told.insert(0, (sentence, "WARNING"))
    names = [
        f"{column.name} ({column.type.native})"
        for column in done.typed.columns[:50]
        if column.type.name != "text" and not column.name.startswith("_")
    ]
    if names:
        told.insert(0, (f"Columns that are no texts: {', '.join(names)}.", "INFO"))
    return told


def _context() -> Any:
    return {"ignore_auth": True, "user": ""}

"""Files that stay in parts, where no one object can exist; and the small parts of any file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.dump.state import Ready
from ckanext.bigquery_datastore.dump.storage import Gone, Headers, Store, StoredObject, Taken


def publish(
    rw: Store, plan: DumpPlan, folder: str, sources: Sequence[StoredObject], headers: Headers
) -> Ready:
    """Publish a file that cannot be one object: an empty one whose metadata tells of the parts.

    :raises Gone: another process has published first
    """
    try:
        marked = replace(headers, metadata={**headers.metadata, "parts": folder})
        rw.create(plan.target, b"", marked)
    except Taken as err:
        raise Gone(folder) from err
    return Ready(in_order(sources), cached=False, metadata=marked.metadata)


def once(rw: Store, name: str, data: bytes) -> StoredObject:
    """A small object of the assembly; another process may have written the same bytes."""
    try:
        return rw.create(name, data, Headers("application/octet-stream"))
    except Taken:
        found = rw.find(name)
        if found is None:
            raise Gone(name) from None
        return found


_ROLES = ("head", "part-", "footer")


def in_order(found: Sequence[StoredObject]) -> tuple[StoredObject, ...]:
    """The objects that make a file, as they follow one another; others left out."""

    def role(item: StoredObject) -> int:
        name = item.name.rpartition("/")[2]
        return next((i for i, start in enumerate(_ROLES) if name.startswith(start)), -1)

    parts = [item for item in found if item.size and role(item) >= 0]
    return tuple(sorted(parts, key=lambda item: (role(item), item.name)))

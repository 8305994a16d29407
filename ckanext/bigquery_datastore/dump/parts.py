"""Files that stay in parts, where no one object can exist; and the small parts of any file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from ckanext.bigquery_datastore.dump.objects import Headers, StoredObject
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.dump.state import Ready
from ckanext.bigquery_datastore.dump.storage import Gone, Store, Taken


def publish(
    rw: Store, plan: DumpPlan, folder: str, sources: Sequence[StoredObject], headers: Headers
) -> Ready:
    """Publish a file that cannot be one object: a marker that holds the list of the parts.

    The list is in its body, as metadata may have 8 KiB (https://cloud.google.com/storage/quotas).

    :raises Gone: another process has published first
    """
    objects = tuple(source for source in sources if source.size) or tuple(sources[:1])
    marked = replace(headers, metadata={**headers.metadata, "parts": folder})
    try:
        rw.create(plan.target, json.dumps([_line(part) for part in objects]).encode(), marked)
    except Taken as err:
        raise Gone(plan.target) from err
    return Ready(objects, cached=False, metadata=marked.metadata)


def look_up(ro: Store, marker: StoredObject) -> Ready | None:
    """The file whose marker was found; None where one of its parts is missing or another one."""
    body = ro.read_range(marker, 0, marker.size - 1) if marker.size else b"[]"
    there = {part.name: part for part in ro.list(marker.metadata["parts"])}
    lines = json.loads(body)
    objects = [there.get(line["name"]) for line in lines]
    if not objects or any(
        part is None or _line(part) != line for part, line in zip(objects, lines, strict=True)
    ):
        return None
    return Ready(tuple(part for part in objects if part), metadata=marker.metadata)


def discard(rw: Store, marker: StoredObject) -> None:
    """Take away what is left of a file: its marker first, so that nobody is given the rest."""
    rw.delete([marker])
    rw.delete(rw.list(marker.metadata["parts"]))


def _line(part: StoredObject) -> dict[str, str | int]:
    return {
        "name": part.name,
        "generation": str(part.generation),
        "size": part.size,
        "crc32c": part.crc32c,
    }


def once(rw: Store, name: str, data: bytes) -> StoredObject:
    """A small object of the assembly; another process may have written the same bytes."""
    try:
        return rw.create(name, data, Headers("application/octet-stream"))
    except Taken:
        found = rw.find(name)
        if found is None:
            raise Gone(name) from None
        return found

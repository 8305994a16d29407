"""What GeoParquet says of a file, said of many that are joined. Pure.

BigQuery's export describes each shard by itself in the key ``geo`` of its metadata: which columns
are geometries, of which types, in which box. The joined file has the types of all shards, and a box
around all boxes; what one shard does not tell, nobody knows of the whole.

Source: https://geoparquet.org/releases/v1.1.0/
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

KEY = b"geo"

# What a column says that readers could not do without, and cannot be two things in one file.
_DECISIVE = ("encoding", "crs", "edges", "epoch")
# Left out means: not known. So it is left out where shards differ.
_OPTIONAL = ("orientation", "covering")


def merged(shards: Sequence[bytes | None]) -> bytes | None:
    """One value of ``geo`` from those of all shards; None where they do not fit together.

    The geometries are then plain bytes to a reader: better than a box that is too small.
    """
    read = [_read(shard) for shard in shards]
    described = [shard for shard in read if shard is not None]
    if not described or len(described) < len(shards):
        return None
    names = [list(shard["columns"]) for shard in described]
    if any(found != names[0] for found in names):
        return None
    columns = {name: _column([shard["columns"][name] for shard in described]) for name in names[0]}
    if None in columns.values():
        return None
    return json.dumps({**described[0], "columns": columns}, ensure_ascii=False).encode()


def _read(shard: bytes | None) -> dict[str, Any] | None:
    try:
        found = json.loads(shard or b"")
    except (ValueError, RecursionError):
        return None
    columns = found.get("columns") if isinstance(found, dict) else None
    is_known = isinstance(columns, dict) and all(isinstance(c, dict) for c in columns.values())
    return found if is_known else None


def _column(shards: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    found = dict(shards[0])
    if any(shard.get(name) != found.get(name) for name in _DECISIVE for shard in shards):
        return None
    for name in _OPTIONAL:
        if any(shard.get(name) != found.get(name) for shard in shards):
            found.pop(name, None)
    types = [shard.get("geometry_types") or [] for shard in shards]
    # An empty list says that the types are not known.
    known = all(isinstance(listed, list) and listed for listed in types)
    found["geometry_types"] = sorted({name for listed in types for name in listed}) if known else []
    found.pop("bbox", None)
    if box := _box([shard.get("bbox") for shard in shards]):
        found["bbox"] = box
    return found


def _box(boxes: Sequence[Any]) -> list[float] | None:
    """The box around all; None where one is not known, or lies across the 180th meridian."""
    if not all(
        isinstance(box, list)
        and len(box) in (4, 6)
        and len(box) == len(boxes[0])
        and all(isinstance(number, (int, float)) for number in box)
        and box[0] <= box[len(box) // 2]
        for box in boxes
    ):
        return None
    half = len(boxes[0]) // 2
    corners = list(zip(*boxes, strict=True))
    return [*map(min, corners[:half]), *map(max, corners[half:])]

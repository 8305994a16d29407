"""GeoParquet's description of a shard, as exports of GEOGRAPHY columns carry it.

"The GEOGRAPHY logical type is represented with GeoParquet metadata added to the exported
file(s)": https://cloud.google.com/bigquery/docs/exporting-data#parquet_export_details. What
is in it beside encoding and spherical edges (https://geoparquet.org/releases/v1.1.0/) is
not documented: types and box, both optional there, are given for each shard.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_TYPES = {
    1: "Point",
    2: "LineString",
    3: "Polygon",
    4: "MultiPoint",
    5: "MultiLineString",
    6: "MultiPolygon",
    7: "GeometryCollection",
}
_POINT, _LINE, _POLYGON = 1, 2, 3


def described(columns: Mapping[str, Iterable[bytes | None]]) -> bytes:
    """The value of the key ``geo``: of each column, by name, the WKB of its values."""
    return json.dumps(
        {
            "version": "1.1.0",
            "primary_column": next(iter(columns)),
            "columns": {name: _column(values) for name, values in columns.items()},
        }
    ).encode()


def _column(values: Iterable[bytes | None]) -> dict[str, Any]:
    types: set[str] = set()
    xs: list[float] = []
    ys: list[float] = []
    for value in values:
        if value is not None:
            order = "<" if value[0] else ">"
            types.add(_TYPES[struct.unpack_from(f"{order}I", value, 1)[0] % 1000])
            for x, y in _points(value):
                xs.append(x)
                ys.append(y)
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted(types),
        "edges": "spherical",
    }
    if xs:
        column["bbox"] = [min(xs), min(ys), max(xs), max(ys)]
    return column


def _points(wkb: bytes) -> Iterator[tuple[float, float]]:
    """Every point of a geometry in two dimensions, nested ones included."""
    yield from _walk(wkb, 0)[0]


def _walk(wkb: bytes, at: int) -> tuple[list[tuple[float, float]], int]:
    order = "<" if wkb[at] else ">"
    kind = struct.unpack_from(f"{order}I", wkb, at + 1)[0] % 1000
    at += 5
    if kind == _POINT:
        return [struct.unpack_from(f"{order}dd", wkb, at)], at + 16
    count = struct.unpack_from(f"{order}I", wkb, at)[0]
    at += 4
    points: list[tuple[float, float]] = []
    for _ in range(1 if kind == _LINE else count):
        if kind in (_LINE, _POLYGON):
            length = count
            if kind == _POLYGON:
                length = struct.unpack_from(f"{order}I", wkb, at)[0]
                at += 4
            numbers = struct.unpack_from(f"{order}{2 * length}d", wkb, at)
            points += zip(numbers[::2], numbers[1::2], strict=True)
            at += 16 * length
        else:
            inner, at = _walk(wkb, at)
            points += inner
    return points, at

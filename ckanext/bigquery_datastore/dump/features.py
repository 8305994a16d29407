"""Rows as features of GeoJSON (RFC 7946): where a row lies, and what else it says. Pure.

A table has features where it has a column of type GEOGRAPHY, or one column for the latitude and one
for the longitude: numbers, of which the label in the data dictionary, or else the name, is one of
the words below. BigQuery writes each row as a line; the collection is written around the lines
while they stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.dump import cells

if TYPE_CHECKING:
    from ckanext.bigquery_datastore.backend.search.select import Outputs
    from ckanext.bigquery_datastore.backend.table.model import Column

LATITUDES = frozenset({"latitude", "lat", "breitengrad", "breite", "latitud"})
LONGITUDES = frozenset({"longitude", "lon", "lng", "long", "längengrad", "länge", "longitud"})


@dataclass(frozen=True)
class Place:
    """The columns that say where a row lies: a GEOGRAPHY, or latitude and longitude."""

    geography: Column | None = None
    latitude: Column | None = None
    longitude: Column | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        found = (self.geography, self.latitude, self.longitude)
        return tuple(column for column in found if column is not None)


def place_of(columns: Iterable[Column]) -> Place | None:
    """Where rows of these columns lie; None where no column, or more than one pair, tells it."""
    known = list(columns)
    for column in known:
        if column.bq_type == "GEOGRAPHY" and not column.repeated:
            return Place(geography=column)
    latitude, longitude = _only(known, LATITUDES), _only(known, LONGITUDES)
    return Place(None, latitude, longitude) if latitude and longitude else None


def _only(columns: Sequence[Column], words: frozenset[str]) -> Column | None:
    """The number that is called by one of the words; a label goes before names."""
    numbers = [column for column in columns if column.type.is_number and not column.repeated]
    for called in (_label, lambda column: column.name):
        found = [column for column in numbers if called(column).strip().casefold() in words]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _label(column: Column) -> str:
    return str(column.info.get("label") or "")


def outputs(columns: Sequence[Column], milliseconds: bool) -> Outputs:
    """What a line has: the members of a feature, from the SQL of each column.

    A column of type JSON is written as JSON into a file of JSON: for the live test to show, as
    Google's documentation does not say it. The JSON null is kept there, where NULL would be left
    out: every feature has a geometry (RFC 7946 section 3.2).
    """
    place = place_of(columns)

    def members(values: Sequence[str]) -> dict[str, str]:
        sql = {column.name: value for column, value in zip(columns, values, strict=True)}
        properties = ", ".join(
            f"{_text(column.name)}, {_property(column, sql[column.name], milliseconds)}"
            for column in columns
            if place is None or column is not place.geography
        )
        return {
            "type": "'Feature'",
            "geometry": _geometry(place, sql) if place else _NULL,
            "properties": f"JSON_OBJECT({properties})",
        }

    return members


_NULL = "JSON 'null'"


def _geometry(place: Place, sql: dict[str, str]) -> str:
    if place.geography is not None:
        # Numbers of any length are rounded to floats, which they come from.
        text = f"ST_ASGEOJSON({sql[place.geography.name]})"
        return f"IFNULL(PARSE_JSON({text}, wide_number_mode=>'round'), {_NULL})"
    latitude, longitude = (
        f"CAST({sql[column.name]} AS FLOAT64)"
        for column in (place.latitude, place.longitude)
        if column is not None
    )
    return (
        f"IF({latitude} BETWEEN -90 AND 90 AND {longitude} BETWEEN -180 AND 180, "
        f"JSON_OBJECT('type', 'Point', 'coordinates', [{longitude}, {latitude}]), {_NULL})"
    )


def _property(column: Column, sql: str, milliseconds: bool) -> str:
    """A value of JSON for the column's: as in the file of format json, but NaN, which is null."""
    type_ = column.type
    if column.repeated or type_.holds_json or type_.bq in ("JSON", "STRUCT"):
        text = types.export_text(type_, sql, milliseconds)
        return f"SAFE.PARSE_JSON({text}, wide_number_mode=>'round')"
    if type_.bq == "FLOAT64":
        return f"IF(IS_NAN({sql}) OR IS_INF({sql}), NULL, {sql})"
    if type_.is_number or type_.bq in ("BOOL", "STRING"):
        return sql
    return cells.row_text(column, sql, milliseconds)


def _text(text: str) -> str:
    # JSON's escapes are among those of GoogleSQL:
    # https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#escape_sequences
    return json.dumps(text, ensure_ascii=False)


def to_collection(
    fields: Sequence[Any],
    lines: Iterable[bytes],
    bom: bool = False,
    keys: Sequence[str] | None = None,
) -> Iterator[bytes]:
    """The file of format geojson from the lines, cut anywhere, of format geojsonl."""
    yield b'{"type": "FeatureCollection", "features": [\n'
    separator = end = b""
    for chunk in lines:
        if chunk:
            yield separator + chunk.removesuffix(b"\n").replace(b"\n", b",\n")
            # Whether a feature follows is not known before the next chunk.
            separator, end = b",\n" if chunk.endswith(b"\n") else b"", b"\n"
    yield end + b"]}\n"

"""From the text of an exported cell to the value that core's JSON and XML dumps write.

Core lets PostgreSQL write each row as JSON and decodes that with msgspec
(``ckanext.datastore.backend.postgres.search_data``), so the value of a cell is what msgspec
makes of PostgreSQL's JSON. The text of a cell comes from ``row_text`` below:

    CKAN type            SQL of the text (beside types.export_text)     value
    int, int2, 4, 8      CAST(c AS STRING)                              int
    float4, float8       CAST(c AS STRING), Infinity, -Infinity, NaN    int below 1e15 without a
                                                                        fraction, else float;
                                                                        the last three as texts
    numeric              CAST(c AS STRING)                              int without a point, else
                                                                        float
    bool                 't', 'f' (true and false do as well)           True, False
    json, nested, jsonb  the JSON                                       what it says
    arrays: _x, x[]      the JSON of the list                           a list of x's values
    timestamp            FORMAT_DATETIME('%Y-%m-%dT%H:%M:%E3S', c)      the text
    timestamptz          FORMAT_TIMESTAMP('…T%H:%M:%E*S+00:00', c)      the text
    date, time, text …   the text as CSV has it                         the text

A NULL is a key that is absent, or the JSON null. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from ckanext.bigquery_datastore.backend.table import types

if TYPE_CHECKING:
    from ckanext.bigquery_datastore.backend.table.model import Column

# What core's dumps know: None, bool, int, float, str, and lists and dicts of them.
Value = Any

_UNLIKE_CSV = {
    "timestamptz": "FORMAT_TIMESTAMP('%E4Y-%m-%dT%H:%M:%E*S+00:00', {})",
}


def row_text(column: Column, sql: str, milliseconds: bool) -> str:
    """The SQL of a cell's text: a STRING, NULL for NULL.

    ``milliseconds`` is core's option ``ckan.datastore.ms_in_timestamp``.
    """
    unlike = _UNLIKE_CSV.get(column.type.name)
    return unlike.format(sql) if unlike else types.export_text(column.type, sql, milliseconds)


def number(text: str) -> Value:
    """An int or a float, as msgspec reads the digits that PostgreSQL writes."""
    return msgspec.json.decode(text)


def floating(text: str) -> Value:
    """A float in PostgreSQL's shortest form: without a point where it has no fraction."""
    return _plain_float(float(text))


def _plain_float(value: float) -> Value:
    if value % 1 == 0 and -1e15 < value < 1e15:
        return int(value)
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


BOOLEANS = {"t": True, "f": False, "true": True, "false": False}


def boolean(text: str) -> Value:
    """True or False; ValueError for any other word."""
    try:
        return BOOLEANS[text]
    except KeyError:
        raise ValueError(f"{text!r} is neither true nor false") from None


def document(text: str) -> Value:
    """Whatever the JSON says."""
    return msgspec.json.decode(text)


def float_list(text: str) -> Value:
    """A list of floats, of any number of dimensions."""
    return _plain_floats(msgspec.json.decode(text))


def _plain_floats(value: Value) -> Value:
    if isinstance(value, list):
        return [_plain_floats(item) for item in value]
    return value if value is None else floating(str(value))


_BY_TYPE: dict[str, Callable[[str], Value]] = {
    "numeric": number,
    "float4": floating,
    "float8": floating,
    "float": floating,
    "bool": boolean,
    "json": document,
    "jsonb": document,
    "nested": document,
    "_float4": float_list,
    "_float8": float_list,
}


# Read by msgspec along with the row, which takes texts for ints where it is told to.
_INTEGERS = frozenset({"int", "int2", "int4", "int8"})


def decoded_as(ckan_type: str) -> Any:
    """The annotation of what msgspec is to make of the cell itself, in its lax mode."""
    return int | None if ckan_type in _INTEGERS else str | None


def reader(ckan_type: str) -> Callable[[str], Value] | None:
    """How the text of a cell of this type is read; None if it is the value already."""
    name = f"_{ckan_type[:-2]}" if ckan_type.endswith("[]") else ckan_type
    known = _BY_TYPE.get(name)
    return document if known is None and name.startswith("_") else known

"""JSON as GoogleSQL reads and writes it, where DuckDB keeps the text that it was given.

Members in the order of their names, the first of two with one name, numbers of 64 bits or floats.
PARSE_JSON refuses a number that a float does not hold, unless it is told to round.
https://cloud.google.com/bigquery/docs/reference/standard-sql/json_functions#parse_json
TO_JSON_STRING of ARRAYs and STRUCTs writes each value by its type.
https://cloud.google.com/bigquery/docs/reference/standard-sql/json_functions#json_encodings
"""

from __future__ import annotations

import base64
import json
import math
import re
from decimal import Decimal
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection
from duckdb.func import FunctionNullHandling

from .texts import Kind

_LARGEST = 2**64


def install(connection: DuckDBPyConnection) -> None:
    """Make the functions known to every connection of the database."""
    text = duckdb.sqltype("VARCHAR")
    for name, function in (("emu_parsed", _parsed_or_null), ("emu_written", written)):
        connection.create_function(
            name, function, [text, text], text, null_handling=FunctionNullHandling.SPECIAL
        )


class _Number(Decimal):
    """A number of a document, with its digits."""


def _parsed_or_null(text: str | None, mode: str) -> str | None:
    """As ``parsed``; NULL of NULL, and with SAFE of what cannot be read."""
    try:
        return None if text is None else parsed(text, mode)
    except ValueError:
        if "safe" in mode:
            return None
        raise


def parsed(text: str, mode: str) -> str:
    """The document in GoogleSQL's own form. Raises ValueError in its words."""
    found = json.loads(
        text, parse_int=_Number, parse_float=_Number, object_pairs_hook=_first_of_each
    )
    return _document(found, "round" not in mode)


def _first_of_each(members: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(sorted(dict(reversed(members)).items()))


def _document(value: Any, exactly: bool) -> str:
    if isinstance(value, _Number):
        return _number(value, exactly)
    if isinstance(value, dict):
        members = (f"{_quoted(name)}:{_document(v, exactly)}" for name, v in value.items())
        return f"{{{','.join(members)}}}"
    if isinstance(value, list):
        return f"[{','.join(_document(item, exactly) for item in value)}]"
    return _quoted(value)


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _number(value: _Number, exactly: bool) -> str:
    is_whole = int(value.as_tuple().exponent) == 0 and "E" not in str(value)
    if is_whole and -_LARGEST // 2 <= value < _LARGEST:
        return str(int(value))
    number = float(value)
    if math.isinf(number):
        raise ValueError(f"Invalid input to PARSE_JSON: number overflow parsing '{value}'")
    if exactly and Decimal(repr(number)) != value:
        raise ValueError(
            f"Invalid input to PARSE_JSON: Input number: {value} cannot round-trip "
            "through string representation"
        )
    return _float(number)


def _float(number: float) -> str:
    """A point or an exponent in every float, the exponent from 1e15 and below 1e-4."""
    size = abs(number)
    if size and not 1e-4 <= size < 1e15:
        return re.sub(r"e([+-])(\d)$", r"e\g<1>0\2", f"{Decimal(repr(number)).normalize():e}")
    return repr(number)


# --- TO_JSON_STRING of what has parts ----------------------------------------------------------


def written(text: str | None, kind: str) -> str | None:
    """DuckDB's JSON of a value of a type as GoogleSQL writes it."""
    if text is None:
        return None
    value = json.loads(text, parse_int=Decimal, parse_float=Decimal)
    return _value(value, Kind.of(duckdb.sqltype(kind)))


def _value(value: Any, kind: Kind) -> str:
    if value is None:
        return "null"
    if kind.name == "list":
        return f"[{','.join(_value(item, kind.parts[0][1]) for item in value)}]"
    if kind.name in ("struct", "range"):
        members = (f"{_quoted(name)}:{_value(value[name], part)}" for name, part in kind.parts)
        return f"{{{','.join(members)}}}"
    if kind.name == "json":
        return parsed(json.dumps(value, default=float), "round")
    return _WRITTEN.get(kind.name, _quoted)(value)


def _exact(value: Decimal) -> str:
    digits = format(value, "f")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return digits if "." not in digits and abs(value) <= 2**53 else f'"{digits}"'


def _floating(value: Any) -> str:
    number = float(value)
    if math.isnan(number):
        return '"NaN"'
    if math.isinf(number):
        return '"Infinity"' if number > 0 else '"-Infinity"'
    short = f"{number:.15g}" if number else "0"
    return short if float(short) == number else f"{number:.17g}"


def _bytes(value: str) -> str:
    raw = re.sub(r"\\x([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), value)
    return f'"{base64.b64encode(raw.encode("latin-1")).decode()}"'


def _moment(value: str) -> str:
    text = value.replace(" ", "T")
    text = re.sub(r"\+00$", "Z", text)
    return _quoted(re.sub(r"\.(\d+)", lambda found: _fraction(found[1]), text))


def _fraction(digits: str) -> str:
    return f".{digits.ljust(3 if len(digits) <= 3 else 6, '0')}"


_WRITTEN = {
    "int": _exact,
    "numeric": _exact,
    "float": _floating,
    "bytes": _bytes,
    "time": _moment,
    "datetime": _moment,
    "timestamp": _moment,
}

"""What google-cloud-bigquery gives, as core's JSON API and its CSV give it. Pure."""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ckanext.bigquery_datastore.backend.table import values

Json = Any  # what json.loads gives


def same(value: Any) -> Json:
    return value


def number(value: Any) -> Json:
    """PostgreSQL writes a float without a fraction as 40, and the odd ones as texts."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else value.normalize()
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def _fraction(micros: int) -> str:
    return f".{micros:06d}".rstrip("0") if micros else ""


def time(value: Any) -> Json:
    return value.strftime("%H:%M:%S") + _fraction(value.microsecond)


def timestamp(value: Any, milliseconds: bool = True) -> Json:
    text = value.replace(microsecond=0, tzinfo=None).isoformat()
    return f"{text}.{value.microsecond // 1000:03d}" if milliseconds else text


def timestamptz(value: Any) -> Json:
    return (
        value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
        + f"{_fraction(value.microsecond)}+00:00"
    )


def document(value: Any) -> Json:
    return json.loads(value) if isinstance(value, str) else value


def base64_text(value: Any) -> Json:
    return base64.b64encode(value).decode("ascii")


def foreign(value: Any) -> Json:
    """Values of columns that CKAN did not make: structs, arrays, intervals, ranges."""
    if isinstance(value, Mapping):
        return {key: foreign(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [foreign(item) for item in value]
    if isinstance(value, bytes):
        return base64_text(value)
    if isinstance(value, (float, Decimal)):
        return number(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)


# --- text: what core's CSV has for a value of the client library ------------------------------


def text_of(value: Any) -> str:
    return str(value)


def text_of_bool(value: Any) -> str:
    return "t" if value else "f"


def float_text(value: float) -> str:
    """A float as PostgreSQL 12 and newer print it: the shortest text that reads back."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    number = Decimal(repr(float(value)))
    digits, exponent = f"{number.normalize():e}".split("e")
    if -4 <= int(exponent) < 15:
        return values.plain_number(number)
    return f"{digits}e{'-' if int(exponent) < 0 else '+'}{abs(int(exponent)):02d}"


def text_of_json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def text_of_foreign(value: Any) -> str:
    read_value = foreign(value)
    return read_value if isinstance(read_value, str) else text_of_json(read_value)

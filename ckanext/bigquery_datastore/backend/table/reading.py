"""What google-cloud-bigquery gives, as core's JSON API and its CSV give it. Pure."""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from dateutil.relativedelta import relativedelta

from ckanext.bigquery_datastore.backend.table import googlesql, values

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
    if isinstance(value, relativedelta):
        return googlesql.interval(value)
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
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    number = _shortest(value)
    digits, exponent = f"{number.normalize():e}".split("e")
    if -4 <= int(exponent) < 15:
        return values.plain_number(number)
    return f"{digits}e{'-' if int(exponent) < 0 else '+'}{abs(int(exponent)):02d}"


#: From here on every float is a whole number, and one halfway between two of them is whole too.
_WHOLE = 2.0**53


def _shortest(value: float) -> Decimal:
    """The shortest decimal that reads back, as PostgreSQL finds it; Python's own is nearly it.

    They differ where Python's reads back because it is halfway between two floats, which does not
    count in PostgreSQL, and where two of the shortest are equally near (powers of two).
    https://github.com/postgres/postgres/blob/master/src/common/d2s.c
    """
    found = Decimal(repr(value))
    is_short = len(found.as_tuple().digits) < 15
    # With more binary places than 26 nothing of at most 17 digits is halfway.
    if abs(value) < _WHOLE and (is_short or not (value * 2.0**26).is_integer()):
        return found
    size = abs(value)
    below = (Fraction(size) + Fraction(math.nextafter(size, 0))) / 2
    above = Fraction(size) + Fraction(math.ulp(size)) / 2
    for digits in (15, 16, 17):
        nearest = Decimal(f"{size:.{digits - 1}e}")
        step = Decimal(1).scaleb(nearest.adjusted() - digits + 1)
        for candidate in (nearest, nearest + step):
            if below < Fraction(candidate) < above:
                return candidate.copy_sign(found)
    return found


def text_of_json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))

"""Values of google-cloud-bigquery as GoogleSQL's TO_JSON_STRING and CAST write them. Pure.

Dumps hold what these functions write of the types that PostgreSQL has not, and
``records_format=csv`` the same.
https://cloud.google.com/bigquery/docs/reference/standard-sql/json_functions#json_encodings
https://cloud.google.com/bigquery/docs/reference/standard-sql/conversion_functions#cast_as_string
"""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from dateutil.relativedelta import relativedelta

#: Whole numbers beyond are texts in JSON: no float holds them all.
_WHOLE = 2**53


def to_json(value: Any) -> str:
    """TO_JSON_STRING of an ARRAY, a STRUCT or a value in one."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, (int, Decimal)):
        return _exact(Decimal(value))
    if isinstance(value, Mapping):
        members = (f"{_quoted(str(name))}:{to_json(item)}" for name, item in value.items())
        return f"{{{','.join(members)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(to_json, value))}]"
    return _quoted(_plain(value))


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime.datetime):
        day, clock = moment(value).split(" ")
        return f"{day}T{clock.replace('+00', 'Z')}"
    return moment(value) if isinstance(value, (datetime.date, datetime.time)) else str(value)


def _exact(value: Decimal) -> str:
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text if value == value.to_integral_value() and abs(value) <= _WHOLE else f'"{text}"'


def _float(value: float) -> str:
    if math.isnan(value):
        return '"NaN"'
    if math.isinf(value):
        return '"Infinity"' if value > 0 else '"-Infinity"'
    short = f"{value:.15g}"
    return (short if float(short) == value else f"{value:.17g}") if value else "0"


def _quoted(text: str) -> str:
    written = json.dumps(text, ensure_ascii=False)
    return written.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def document(value: Any) -> str:
    """TO_JSON_STRING of a JSON value: members in the order of their names."""
    if isinstance(value, Mapping):
        members = (f"{_text(name)}:{document(item)}" for name, item in sorted(value.items()))
        return f"{{{','.join(members)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(document, value))}]"
    return _number(value) if isinstance(value, float) else _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """The shortest digits, with a point or an exponent: 1.0, 1e-07, 1e+15."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text, point = "".join(map(str, digits)), len(digits) + int(exponent)
    minus = "-" if sign else ""
    if not value:
        return f"{minus}0.0"
    if len(text) <= point <= 15:
        return f"{minus}{text.ljust(point, '0')}.0"
    if 0 < point <= 15:
        return f"{minus}{text[:point]}.{text[point:]}"
    if -4 < point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    fraction = f".{text[1:]}" if len(text) > 1 else ""
    return f"{minus}{text[0]}{fraction}e{point - 1:+03d}"


def moment(value: Any) -> str:
    """CAST of a date or a time: no fraction, or one of three or of six digits."""
    if isinstance(value, datetime.datetime):
        day = value.date().isoformat()
        return f"{day} {_clock(value)}{'+00' if value.tzinfo else ''}"
    return _clock(value) if isinstance(value, datetime.time) else value.isoformat()


def _clock(value: Any) -> str:
    return f"{value:%H:%M:%S}{_fraction(value.microsecond)}"


def _fraction(micros: int) -> str:
    if micros % 1000:
        return f".{micros:06d}"
    return f".{micros // 1000:03d}" if micros else ""


def interval(value: relativedelta) -> str:
    """CAST of an INTERVAL: ``1-2 3 4:5:6.500``, a sign before each of the three parts."""
    months = value.years * 12 + value.months
    micros = ((value.hours * 60 + value.minutes) * 60 + value.seconds) * 10**6 + value.microseconds
    seconds, rest = divmod(abs(micros), 10**6)
    years = f"{'-' if months < 0 else ''}{abs(months) // 12}-{abs(months) % 12}"
    clock = f"{seconds // 3600}:{seconds // 60 % 60}:{seconds % 60}{_fraction(rest)}"
    return f"{years} {value.days} {'-' if micros < 0 else ''}{clock}"


def range_(value: Mapping[str, Any]) -> str:
    """CAST of a RANGE: ``[2024-01-01, UNBOUNDED)``."""
    start, end = (
        "UNBOUNDED" if value.get(side) is None else moment(value[side]) for side in ("start", "end")
    )
    return f"[{start}, {end})"

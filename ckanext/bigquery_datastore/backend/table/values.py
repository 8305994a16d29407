"""Values on their way into BigQuery: what PostgreSQL would accept, as BigQuery reads it.

Every function takes what a client sent (decoded JSON) and returns the canonical text of
the value, which the SQL of ``types`` turns into the column's type without a chance to
fail: a bad record is found before anything is sent. The sentences are PostgreSQL's,
because clients of the DataStore know them ("invalid input syntax for type numeric").

Raises ``BadValue``; ``{column}`` in its message is the name of the column.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import uuid
from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from functools import partial
from typing import Any

from dateutil import parser as dateutil_parser

Writer = Callable[[Any], str]

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\Z")
_DATE = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})\Z")
_SLASHED = re.compile(r"([0-9]{1,2})[/-]([0-9]{1,2})[/-]([0-9]{4})(.*)\Z", re.DOTALL)
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(\.[0-9]+)?)?\Z")
_UNLIKELY = (datetime.datetime(1904, 1, 1), datetime.datetime(2013, 12, 31))
_NATIVE = {"timestamp": "timestamp without time zone", "time": "time without time zone"}
_SPECIAL_FLOATS = {
    "nan": "NaN",
    "inf": "Infinity",
    "infinity": "Infinity",
    "+inf": "Infinity",
    "+infinity": "Infinity",
    "-inf": "-Infinity",
    "-infinity": "-Infinity",
}

#: BigQuery's NUMERIC: 29 digits before the point, 9 after it.
_NUMERIC_STEP = Decimal("1e-9")
_NUMERIC_LIMIT = Decimal("1e29")
_WIDE = Context(prec=80, rounding=ROUND_HALF_UP)


#: PostgreSQL's MAXDATELEN: no date or time is longer.
LONGEST_MOMENT = 128

#: Digits of a number in JSON, before or after the point, as PostgreSQL's numeric has them at most:
#: https://www.postgresql.org/docs/current/datatype-numeric.html. Written out, it is that long.
_MOST_DIGITS = 131_072


class BadValue(ValueError):
    """A value that its column cannot hold; ``{column}`` in the message is for its name."""

    def for_column(self, name: str) -> str:
        return str(self).replace("{column}", name)


def _syntax(type_name: str, value: object) -> BadValue:
    return BadValue(f'invalid input syntax for type {type_name}: "{value}"')


def _mismatch(type_name: str, value: object) -> BadValue:
    if isinstance(value, dict):
        return BadValue("can't adapt type 'dict'")
    if isinstance(value, bool):
        given = "boolean"
    elif isinstance(value, int):
        given = "integer"
    elif isinstance(value, (float, Decimal)):
        given = "numeric"
    else:
        given = "text[]"
    return BadValue(f'column "{{column}}" is of type {type_name} but expression is of type {given}')


def plain_number(value: Decimal) -> str:
    """The digits of a number, without an exponent and without trailing zeros."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def text(value: Any, longest: int | None = None) -> str:
    if isinstance(value, bool):
        result = "true" if value else "false"
    elif isinstance(value, str):
        result = value
    elif isinstance(value, (int, Decimal)):
        result = str(value)
    elif isinstance(value, float):
        result = plain_number(Decimal(repr(value))) if value == value else "NaN"
    else:
        raise _mismatch("text", value)
    if "\0" in result:
        raise BadValue("A string literal cannot contain NUL (0x00) characters.")
    if not result.isascii() and any("\ud800" <= char <= "\udfff" for char in result):
        raise BadValue('invalid byte sequence for encoding "UTF8"')
    if longest is not None and len(result) > longest:
        raise BadValue(f"value too long for type character varying({longest})")
    return result


def integer(value: Any, type_name: str, bits: int) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        raise _mismatch(type_name, value)
    if isinstance(value, str):
        if not _INTEGER.match(value.strip()):
            raise _syntax(type_name, value)
        number = int(value)
    elif isinstance(value, int):
        number = value
    else:
        try:
            number = int(Decimal(str(value)).to_integral_value())
        except (InvalidOperation, ValueError, OverflowError):
            raise _syntax(type_name, value) from None
    if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        if isinstance(value, str):
            raise BadValue(f'value "{value}" is out of range for type {type_name}')
        raise BadValue(f"{type_name} out of range")
    return str(number)


def floating(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        raise _mismatch("double precision", value)
    given = str(value).strip()
    if given.lower() in _SPECIAL_FLOATS:
        return _SPECIAL_FLOATS[given.lower()]
    if not _NUMBER.match(given):
        raise _syntax("double precision", value)
    number = float(given)
    if number in (float("inf"), float("-inf")):
        raise BadValue(f'"{given}" is out of range for type double precision')
    # PostgreSQL reads a number (not a text) as a numeric, which has no -0: adding 0.0 makes it 0.
    return repr(number if isinstance(value, str) else number + 0.0)


def numeric(value: Any, precision: int | None = None, scale: int = 0) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        raise _mismatch("numeric", value)
    given = repr(value) if isinstance(value, float) else str(value)
    if given.strip().lower() in _SPECIAL_FLOATS:
        raise BadValue(f"numeric field overflow: BigQuery's NUMERIC cannot hold {given.strip()}")
    if not _NUMBER.match(given.strip()):
        raise _syntax("numeric", value)
    step = _NUMERIC_STEP if precision is None else Decimal(1).scaleb(-min(scale, 9))
    limit = _NUMERIC_LIMIT if precision is None else Decimal(1).scaleb(precision - scale)
    number = Decimal(given.strip())
    # Checked before rounding: 1e999999 would be expanded to a million digits.
    if number and number.adjusted() > 29:
        raise BadValue("numeric field overflow")
    number = number.quantize(step, context=_WIDE)
    if number.copy_abs() >= min(limit, _NUMERIC_LIMIT):  # abs() would round to 28 digits
        raise BadValue("numeric field overflow")
    return plain_number(number)


def boolean(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        raise _mismatch("boolean", value)
    given = value.strip().lower()
    for words, result in ((_TRUE, "true"), (_FALSE, "false")):
        if given and given != "o" and any(word.startswith(given) for word in words):
            return result
    raise _syntax("boolean", value)


def _moment(value: Any, type_name: str) -> datetime.datetime:
    """The date and time of a text, read as PostgreSQL does with DateStyle ISO, MDY."""
    if not isinstance(value, str):
        raise _mismatch(_NATIVE.get(type_name, type_name), value)
    given = value.strip()
    if len(given) > LONGEST_MOMENT:
        raise _syntax(type_name, f"{given[:LONGEST_MOMENT]}…")
    slashed = _SLASHED.match(given)
    if slashed:
        month, day, year, rest = slashed.groups()
        given = f"{year}-{month:0>2}-{day:0>2}{rest}"
    if not re.search(r"[0-9]", given) or re.fullmatch(r"[0-9]{1,7}", given):
        raise _syntax(type_name, value)
    try:
        return datetime.datetime.fromisoformat(given)
    except ValueError:
        pass
    try:
        # Two defaults that differ in every part: what the text leaves out shows up as a
        # difference, and a guessed part of a date must not be stored.
        readings = [dateutil_parser.parse(given, default=start) for start in _UNLIKELY]
    except (ValueError, OverflowError, TypeError):
        if _DATE.match(given[:10]):
            raise BadValue(f'date/time field value out of range: "{value}"') from None
        raise _syntax(type_name, value) from None
    if readings[0] != readings[1]:
        raise _syntax(type_name, value)
    return readings[0]


def date(value: Any) -> str:
    return _moment(value, "date").date().isoformat()


def timestamp(value: Any) -> str:
    """Without a time zone: one that is given is left out, as in PostgreSQL."""
    moment = _moment(value, "timestamp").replace(tzinfo=None)
    return moment.isoformat(sep=" ")


def timestamptz(value: Any) -> str:
    moment = _moment(value, "timestamp with time zone")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return moment.astimezone(datetime.timezone.utc).isoformat(sep=" ")


def time(value: Any) -> str:
    if not isinstance(value, str):
        raise _mismatch("time without time zone", value)
    match = _TIME.match(value.strip())
    if not match:
        return _moment(value, "time").time().isoformat()
    hours, minutes, seconds, fraction = match.groups()
    try:
        micros = int(f"{fraction or '.0':.7}".lstrip(".").ljust(6, "0"))
        return datetime.time(int(hours), int(minutes), int(seconds or 0), micros).isoformat()
    except ValueError:
        raise BadValue(f'date/time field value out of range: "{value}"') from None


def nested(value: Any) -> str:
    """Any JSON value, in the words of Python's ``json.dumps``: what core stores."""
    return json.dumps(value)


def jsonb_text(value: Any) -> str:
    """JSON as PostgreSQL's ``jsonb`` prints it: members by length and bytes of their keys, one
    space after ``:`` and ``,``, the digits of numbers as they were given.
    https://www.postgresql.org/docs/current/datatype-json.html
    """
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        found = json.loads(
            text, parse_float=Decimal, parse_int=Decimal, parse_constant=no_such_number
        )
    except ValueError:
        raise BadValue("invalid input syntax for type json") from None
    if "\\u0000" in text:
        raise BadValue("unsupported Unicode escape sequence")
    return _jsonb(found)


def native_json(value: Any) -> str:
    """As ``jsonb_text``, for BigQuery's own JSON: its numbers are floats beyond 64 bits."""
    written = jsonb_text(value)
    for number in _numbers(json.loads(written, parse_float=Decimal, parse_int=Decimal)):
        if math.isinf(float(number)):
            raise BadValue(f'"{number:.6e}" is out of range for a number in BigQuery\'s JSON')
    return written


def _numbers(value: Any) -> Iterator[Decimal]:
    if isinstance(value, Decimal):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)


def no_such_number(name: str) -> None:
    """Python's reader of JSON takes NaN and Infinity, which JSON has not."""
    raise ValueError(name)


def _jsonb(value: Any) -> str:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        members = (f"{json.dumps(key, ensure_ascii=False)}: {_jsonb(value[key])}" for key in keys)
        return f"{{{', '.join(members)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_jsonb, value))}]"
    if isinstance(value, Decimal):
        if value and not -_MOST_DIGITS < value.adjusted() < _MOST_DIGITS:
            raise BadValue("value overflows numeric format")
        return format(abs(value) if value.is_zero() else value, "f")
    return json.dumps(value, ensure_ascii=False)


def uuid_text(value: Any) -> str:
    if not isinstance(value, str):
        raise _mismatch("uuid", value)
    try:
        return str(uuid.UUID(value.strip()))
    except ValueError:
        raise _syntax("uuid", value) from None


def array(value: Any, element: Writer, quoted: bool) -> str:
    """A list as PostgreSQL's ``array_to_json`` writes it; ``quoted``: elements are texts."""
    if isinstance(value, str):
        value = _array_literal(value)
    if not isinstance(value, list):
        raise _mismatch("array", value)
    parts = []
    for item in value:
        if isinstance(item, list):
            parts.append(array(item, element, quoted))
        elif item is None:
            parts.append("null")
        else:
            written = element(item)
            parts.append(json.dumps(written, ensure_ascii=False) if quoted else written)
    return "[" + ",".join(parts) + "]"


def _array_literal(value: str) -> list[Any]:
    """PostgreSQL's ``{a,"b c",NULL}``, of one dimension."""
    given = value.strip()
    if not (given.startswith("{") and given.endswith("}")):
        raise BadValue(f'malformed array literal: "{value}"')
    items: list[Any] = []
    for quoted, bare in re.findall(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)', given[1:-1]):
        if bare:
            items.append(None if bare.strip().upper() == "NULL" else bare.strip())
        else:
            items.append(re.sub(r"\\(.)", r"\1", quoted))
    return items


def limited_text(longest: int | None) -> Writer:
    return partial(text, longest=longest)

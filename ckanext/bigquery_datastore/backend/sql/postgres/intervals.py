"""Lengths of time, as PostgreSQL keeps them: months, days and microseconds. Pure.

BigQuery's INTERVAL is written and compared otherwise, so none is ever made: an interval lives in
three numbers until it is added to a moment, compared, or asked for a field.
"""

from __future__ import annotations

import re
from fractions import Fraction

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres.kinds import (
    Parts,
    Value,
    refused,
    whole,
)
from ckanext.bigquery_datastore.backend.sql.postgres.template import say

SECOND = 1_000_000
DAY = 86_400 * SECOND

#: Units by their names, small and in the singular: months, days, microseconds.
_UNITS = {
    **dict.fromkeys(("microsecond", "us", "usec"), (0, 0, 1)),
    **dict.fromkeys(("millisecond", "ms", "msec"), (0, 0, 1000)),
    **dict.fromkeys(("second", "sec", "s"), (0, 0, SECOND)),
    **dict.fromkeys(("minute", "min", "m"), (0, 0, 60 * SECOND)),
    **dict.fromkeys(("hour", "hr", "h"), (0, 0, 3600 * SECOND)),
    **dict.fromkeys(("day", "d"), (0, 1, 0)),
    **dict.fromkeys(("week", "w"), (0, 7, 0)),
    **dict.fromkeys(("month", "mon"), (1, 0, 0)),
    **dict.fromkeys(("year", "yr", "y"), (12, 0, 0)),
    **dict.fromkeys(("decade", "dec"), (120, 0, 0)),
    **dict.fromkeys(("century", "centurie", "cent", "c"), (1200, 0, 0)),
}
_PIECE = re.compile(
    r"\s*(?:(?P<clock>[+-]?\d+:\d\d(?::\d\d(?:\.\d{1,6})?)?)|(?P<number>[+-]?\d+(?:\.\d+)?)\s*"
    r"(?P<unit>[a-zA-Z]+))\s*",
    re.ASCII,
)
_LARGEST = 10**9


def literal(text: str, unit: str | None = None) -> Value:
    """``interval '1 year 2 months 3:30'``, ``interval '1' day``.

    :raises Invalid: it is written in a way that is not known here
    """
    is_bare = re.fullmatch(r"\s*[+-]?\d+(\.\d+)?\s*", text, re.ASCII)
    given = f"{text} {unit or 'second'}" if is_bare else text
    total, place = [Fraction(0)] * 3, 0
    is_ago = given.rstrip().endswith(" ago")
    given = given.rstrip().removesuffix(" ago")
    while found := _PIECE.match(given, place):
        place = found.end()
        for index, amount in enumerate(_amounts(found)):
            total[index] += amount
    if place != len(given) or place == 0 or len(given) > 100:
        raise refused(f'invalid input syntax for type interval: "{text[:100]}"')
    if any(amount.denominator != 1 or abs(amount) > _LARGEST * DAY for amount in total):
        raise refused(f'The interval "{text[:100]}" has a part of a month or of a day')
    sign = -1 if is_ago else 1
    months, days, micros = (whole(sign * int(amount)) if amount else None for amount in total)
    return of_parts(Parts(months, days, micros))


def _amounts(found: re.Match[str]) -> tuple[Fraction, Fraction, Fraction]:
    if found["clock"]:
        sign = -1 if found["clock"].startswith("-") else 1
        hours, minutes, seconds = (*found["clock"].lstrip("+-").split(":"), "0")[:3]
        seconds_all = int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
        return Fraction(0), Fraction(0), sign * seconds_all * SECOND
    name = found["unit"].lower()
    size = _UNITS.get(name) or _UNITS.get(name.removesuffix("s"))
    if size is None:
        raise refused(f'invalid input syntax for type interval: "{found[0].strip()[:100]}"')
    number = Fraction(found["number"])
    months, days, micros = (number * part for part in size)
    return months, days, micros


def of_parts(parts: Parts) -> Value:
    return Value(exp.null(), "interval", parts=parts)


def of(value: Value) -> Value:
    """A value as an interval: one already, or a literal of one."""
    if value.parts is not None:
        return value
    if value.quoted is not None:
        return literal(value.quoted)
    raise refused(f"operator does not exist: {value.native} with interval")


def _total(parts: Parts) -> exp.Expr:
    """Microseconds, a month being 30 days, as PostgreSQL compares intervals."""
    sizes = ((parts.months, 30 * DAY), (parts.days, DAY), (parts.micros, 1))
    terms = [
        say("@a * @b", a=part, b=whole(size)) if size > 1 else part for part, size in sizes if part
    ]
    found = terms[0] if terms else whole(0)
    for term in terms[1:]:
        found = say("@a + @b", a=found, b=term)
    return found


def length(value: Value) -> Value:
    """A whole number that intervals can be compared by."""
    assert value.parts is not None
    return Value(_total(value.parts), "int8")


def mapped(value: Value, text: str, other: exp.Expr | None = None) -> Value:
    """Each part as a text of GoogleSQL says it of ``@a``."""
    assert value.parts is not None
    more = {} if other is None else {"b": other}
    parts = (value.parts.months, value.parts.days, value.parts.micros)
    months, days, micros = (part and say(text, a=part, **more) for part in parts)
    return of_parts(Parts(months, days, micros))


def added(one: Value, other: Value, sign: str) -> Value:
    assert one.parts is not None and other.parts is not None
    pairs = zip(
        (one.parts.months, one.parts.days, one.parts.micros),
        (other.parts.months, other.parts.days, other.parts.micros),
        strict=True,
    )
    months, days, micros = (
        say(f"@a {sign} @b", a=a or whole(0), b=b) if b else a for a, b in pairs
    )
    return of_parts(Parts(months, days, micros))


def difference(micros: exp.Expr) -> Value:
    """Of two moments: days, and what is left."""
    day = whole(DAY)
    return of_parts(
        Parts(None, say("DIV(@a, @b)", a=micros, b=day), say("MOD(@a, @b)", a=micros, b=day))
    )


#: Fields of an interval, as EXTRACT gives them: of months, days or microseconds.
_FIELDS = {
    "year": ("months", "DIV(@a, 12)"),
    "month": ("months", "MOD(@a, 12)"),
    "quarter": ("months", "DIV(MOD(@a, 12), 3) + 1"),
    "decade": ("months", "DIV(@a, 120)"),
    "century": ("months", "DIV(@a, 1200)"),
    "millennium": ("months", "DIV(@a, 12000)"),
    "day": ("days", "@a"),
    "hour": ("micros", "DIV(@a, 3600000000)"),
    "minute": ("micros", "DIV(MOD(@a, 3600000000), 60000000)"),
    "second": ("micros", "CAST(MOD(@a, 60000000) AS NUMERIC) / 1000000"),
    "milliseconds": ("micros", "CAST(MOD(@a, 60000000) AS NUMERIC) / 1000"),
    "microseconds": ("micros", "MOD(@a, 60000000)"),
}

#: A year is 365.25 days there, a month 30.
_EPOCH = "CAST(DIV(@a, 12) * 31557600 + MOD(@a, 12) * 2592000 + @b * 86400 AS NUMERIC)"


def field(value: Value, name: str) -> exp.Expr:
    parts = value.parts
    assert parts is not None
    if name == "epoch":
        months, days, micros = (
            part or whole(0) for part in (parts.months, parts.days, parts.micros)
        )
        return say(f"{_EPOCH} + CAST(@c AS NUMERIC) / 1000000", a=months, b=days, c=micros)
    if name not in _FIELDS:
        raise refused(f'unit "{name}" not recognized for type interval')
    which, how = _FIELDS[name]
    return say(how, a=getattr(parts, which) or whole(0))

"""Operators of numbers, texts and moments. Pure."""

from __future__ import annotations

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres import casts, intervals
from ckanext.bigquery_datastore.backend.sql.postgres.kinds import (
    INTEGERS,
    MOMENTS,
    NUMBERS,
    UNKNOWN,
    Value,
    coerced,
    common,
    decimal,
    literal,
    refused,
)
from ckanext.bigquery_datastore.backend.sql.postgres.template import say

SYMBOLS: dict[type[exp.Expr], str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
    exp.Pow: "^",
}

#: A quotient of numerics has 16 digits or more, in fours, by the size of what comes out
#: (select_div_scale in https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/utils/adt/numeric.c).
#: Four more where both begin with the same number below 10,000.
_DIGITS = (
    ("ABS(@q) >= 1000000000000", 4),
    ("ABS(@q) >= 100000000", 8),
    ("ABS(@q) >= 10000", 12),
    ("ABS(@q) >= 1 AND TRUNC(@a) <> TRUNC(@b)", 16),
    ("ABS(@q) * 10000 >= 1", 20),
    ("ABS(@q) * 100000000 >= 1", 24),
    ("ABS(@q) * 1000000000000 >= 1", 28),
    ("TRUE", 32),
)
QUOTIENT = f"CASE {' '.join(f'WHEN {when} THEN ROUND(@q, {n})' for when, n in _DIGITS)} END"

#: By the operator and the kind that both sides have; ``@a``, ``@b`` are the sides.
_NUMBERS = {
    **{
        (sign, kind): f"@a {sign} @b" for sign in "+-*" for kind in (*INTEGERS, "numeric", "float8")
    },
    **{("/", kind): "DIV(@a, @b)" for kind in INTEGERS},
    **{("%", kind): "MOD(@a, @b)" for kind in (*INTEGERS, "numeric")},
    ("*", "numeric"): "CAST(@a AS BIGNUMERIC) * @b",
    ("/", "float8"): "@a / @b",
    ("^", "float8"): "POW(@a, @b)",
}

#: Nodes of a quotient that is written several times.
_SHORT = 40

_ADDING = {"date": "DATE", "timestamp": "DATETIME", "timestamptz": "TIMESTAMP"}


def quotient(a: exp.Expr, b: exp.Expr) -> exp.Expr:
    """``a / b`` of numerics, with PostgreSQL's digits; of a quotient again, with twenty."""
    found = say("CAST(@a AS BIGNUMERIC) / @b", a=a, b=b)
    if sum(1 for _ in found.walk()) > _SHORT:
        return say("ROUND(@a, 20)", a=found)
    return say(QUOTIENT, q=found, a=a, b=b)


def negative(value: Value) -> Value:
    if value.number is not None:
        number = value.number[1:] if value.number.startswith("-") else f"-{value.number}"
        return Value(decimal(number, number), "numeric", number=number)
    if value.parts is not None:
        return intervals.mapped(value, "-@a")
    if value.quoted is not None:
        value = Value(literal(value.quoted, "float8"), "float8")
    if value.kind not in NUMBERS:
        raise refused(f"operator does not exist: - {value.native}")
    return Value(exp.Neg(this=_operand(value.tree)), value.kind)


def _operand(tree: exp.Expr) -> exp.Expr:
    return say("-@a", a=tree).this


def computed(sign: str, one: Value, other: Value) -> Value:
    """``one sign other``."""
    kinds = {one.kind, other.kind}
    if "interval" in kinds or kinds & {*MOMENTS, "time"}:
        return _with_moments(sign, one, other)
    kind = common(one.kind, other.kind)
    if kind in INTEGERS and sign == "^":
        kind = "float8"
    if kind not in NUMBERS:
        raise _unknown(sign, one, other)
    a, b = coerced(one, kind), coerced(other, kind)
    if (sign, kind) == ("/", "numeric"):
        return Value(quotient(a, b), kind)
    if (sign, kind) == ("^", "numeric"):
        raise refused("A power of numerics cannot be said in GoogleSQL: cast one to float8")
    if (sign, kind) not in _NUMBERS:
        raise _unknown(sign, one, other)
    return Value(say(_NUMBERS[sign, kind], a=a, b=b), kind)


def _unknown(sign: str, one: Value, other: Value) -> Exception:
    return refused(f"operator does not exist: {one.native} {sign} {other.native}")


def joined(one: Value, other: Value) -> Value:
    """``one || other``."""
    if "text" not in (one.kind, other.kind) and UNKNOWN not in (one.kind, other.kind):
        raise _unknown("||", one, other)
    if "jsonb" in (one.kind, other.kind):
        raise refused("Values of JSON cannot be joined in GoogleSQL as in PostgreSQL")
    a, b = casts.to_text(one), casts.to_text(other)
    return Value(say("CONCAT(@a, @b)", a=a, b=b), "text")


# --- moments and intervals ------------------------------------------------------------------------


def _with_moments(sign: str, one: Value, other: Value) -> Value:
    if sign == "+" and one.kind not in MOMENTS and other.kind in MOMENTS:
        one, other = other, one
    if one.parts is not None and other.kind in (*NUMBERS, UNKNOWN) and sign in "*/":
        return _times(sign, one, other)
    if other.parts is not None and one.kind in NUMBERS and sign == "*":
        return _times(sign, other, one)
    if sign not in "+-":
        raise _unknown(sign, one, other)
    if one.kind not in MOMENTS and one.quoted is not None and other.kind in MOMENTS:
        one = Value(coerced(one, other.kind), other.kind)
    if one.parts is not None or (one.quoted is not None and other.parts is not None):
        return intervals.added(intervals.of(one), intervals.of(other), sign)
    if one.kind == "date" and other.kind in ("int2", "int4"):
        function = "DATE_ADD" if sign == "+" else "DATE_SUB"
        return Value(say(f"{function}(@a, INTERVAL @b DAY)", a=one.tree, b=other.tree), "date")
    if one.kind in MOMENTS and other.parts is not None:
        return _moved(one, other if sign == "+" else intervals.mapped(other, "-@a"))
    if one.kind in MOMENTS and sign == "-" and (other.kind in MOMENTS or other.quoted is not None):
        return _apart(one, other)
    raise _unknown(sign, one, other)


def _times(sign: str, interval: Value, number: Value) -> Value:
    if sign == "*" and number.kind in INTEGERS:
        return intervals.mapped(interval, "@a * @b", number.tree)
    raise refused("An interval can only be multiplied by a whole number here")


def _moved(moment: Value, interval: Value) -> Value:
    """PostgreSQL adds the months first, then the days, then the time; a date becomes a moment."""
    parts = interval.parts
    assert parts is not None
    is_zoned = moment.kind == "timestamptz"
    # In UTC, which is the session's, a timestamptz moves as a timestamp does.
    tree = say("DATETIME(@a)", a=moment.tree) if is_zoned else coerced(moment, "timestamp")
    for part, unit in ((parts.months, "MONTH"), (parts.days, "DAY"), (parts.micros, "MICROSECOND")):
        if part is not None:
            tree = say(f"DATETIME_ADD(@a, INTERVAL @b {unit})", a=tree, b=part)
    if is_zoned:
        return Value(say("TIMESTAMP(@a)", a=tree), "timestamptz")
    return Value(tree, "timestamp")


def _apart(one: Value, other: Value) -> Value:
    """How far two moments are apart: days of dates, an interval of others."""
    kind = common(one.kind, other.kind)
    assert kind is not None
    a, b = coerced(one, kind), coerced(other, kind)
    if kind == "date":
        return Value(say("DATE_DIFF(@a, @b, DAY)", a=a, b=b), "int4")
    return intervals.difference(say(f"{_ADDING[kind]}_DIFF(@a, @b, MICROSECOND)", a=a, b=b))

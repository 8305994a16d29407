"""Operators that answer true or false: comparisons, lists, patterns. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres import intervals, patterns
from ckanext.bigquery_datastore.backend.sql.postgres.kinds import (
    GOOGLE,
    UNKNOWN,
    Value,
    coerced,
    common,
    refused,
)
from ckanext.bigquery_datastore.backend.sql.postgres.template import say
from ckanext.bigquery_datastore.backend.table import types

SYMBOLS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM",
    exp.NullSafeNEQ: "IS DISTINCT FROM",
}

#: NaN is equal to NaN in PostgreSQL, and greater than any number; to BigQuery all of this is false
#: (https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#floating_point_semantics).
_FLOATS = {
    "=": "@a = @b OR (IS_NAN(@a) AND IS_NAN(@b))",
    "<>": "NOT (@a = @b OR (IS_NAN(@a) AND IS_NAN(@b)))",
    ">": "@a > @b OR (IS_NAN(@a) AND NOT IS_NAN(@b))",
    ">=": "@a >= @b OR (IS_NAN(@a) AND @b IS NOT NULL)",
    "<": "@a < @b OR (IS_NAN(@b) AND NOT IS_NAN(@a))",
    "<=": "@a <= @b OR (IS_NAN(@b) AND @a IS NOT NULL)",
}
#: The same where one side is a number for sure: by the side that it is on.
_NUMBER_RIGHT = {">": "@a > @b OR IS_NAN(@a)", ">=": "@a >= @b OR IS_NAN(@a)"}
_NUMBER_LEFT = {"<": "@a < @b OR IS_NAN(@b)", "<=": "@a <= @b OR IS_NAN(@b)"}


#: Members of a list that is no list of GoogleSQL's, but a chain of comparisons.
_MOST = 50


def truth(tree: exp.Expr) -> Value:
    return Value(tree, "bool")


def compare(symbol: str, one: Value, other: Value) -> Value:
    """One of the operators of ``SYMBOLS``."""
    if "interval" in (one.kind, other.kind):
        one, other = (intervals.length(intervals.of(value)) for value in (one, other))
    kind = common(one.kind, other.kind)
    kind = "text" if kind == UNKNOWN else kind
    if kind is None or (kind not in GOOGLE and kind != "jsonb"):
        raise refused(f"operator does not exist: {one.native} {symbol} {other.native}")
    if kind == "jsonb":
        raise refused("Values of JSON cannot be compared in GoogleSQL as in PostgreSQL")
    a, b = coerced(one, kind), coerced(other, kind)
    return truth(say(_comparison(symbol, kind, one, other), a=a, b=b))


def _comparison(symbol: str, kind: str, one: Value, other: Value) -> str:
    plain = f"@a {symbol} @b"
    if kind != "float8" or symbol not in _FLOATS:
        return plain
    if _is_number(other):
        return _NUMBER_RIGHT.get(symbol, plain)
    if _is_number(one):
        return _NUMBER_LEFT.get(symbol, plain)
    return _FLOATS[symbol]


def _is_number(value: Value) -> bool:
    """Whether a value is no NaN for sure."""
    if value.quoted is not None:
        return types.TYPES["float8"].write(value.quoted) != "NaN"
    return value.kind in ("int2", "int4", "int8", "numeric")


def rows(symbol: str, ones: Sequence[Value], others: Sequence[Value]) -> Value:
    """``(a, b) = (c, d)``."""
    if symbol not in ("=", "<>") or len(ones) != len(others):
        raise refused("Rows can only be compared by = and <>, and with as many columns")
    equal = both([compare("=", one, other) for one, other in zip(ones, others, strict=True)])
    return truth(say("NOT (@a)", a=equal.tree)) if symbol == "<>" else equal


def both(values: Sequence[Value]) -> Value:
    return truth(reduce(lambda a, b: say("@a AND @b", a=a, b=b), [v.tree for v in values]))


def either(values: Sequence[Value]) -> Value:
    return truth(reduce(lambda a, b: say("@a OR @b", a=a, b=b), [v.tree for v in values]))


def in_list(value: Value, items: Sequence[Value]) -> Value:
    """``value IN (items)``. In one IN, as BigQuery reads a long one best, where one kind allows."""
    kind: str | None = value.kind
    for item in items:
        kind = common(kind, item.kind) if kind is not None else None
    kind = "text" if kind == UNKNOWN else kind
    is_sure = kind != "float8" or all(_is_number(item) for item in items)
    if kind is None or kind not in GOOGLE or not is_sure:
        if len(items) > _MOST:
            raise refused(f"A list of more than {_MOST} such values cannot be said in GoogleSQL")
        return either([compare("=", value, item) for item in items])
    listed = [coerced(item, kind) for item in items]
    return truth(exp.In(this=say("@a", a=coerced(value, kind)), expressions=listed))


def between(value: Value, low: Value, high: Value) -> Value:
    if value.kind != "float8" and "interval" not in (value.kind, low.kind, high.kind):
        kinds = (common(value.kind, low.kind), common(value.kind, high.kind))
        if kinds[0] == kinds[1] and kinds[0] in GOOGLE and kinds[0] != "float8":
            parts = [coerced(part, kinds[0]) for part in (value, low, high)]
            a, b, c = parts
            return truth(say("@a BETWEEN @b AND @c", a=a, b=b, c=c))
    return both([compare(">=", value, low), compare("<=", value, high)])


# --- patterns -----------------------------------------------------------------------------------


def _text(value: Value, symbol: str) -> exp.Expr:
    if value.kind not in ("text", UNKNOWN):
        raise refused(f"operator does not exist: {value.native} {symbol} unknown")
    return coerced(value, "text")


def _written(value: Value, what: str) -> str:
    if value.quoted is None:
        raise refused(f"{what} can only be a literal here")
    return value.quoted


def like(value: Value, pattern: Value, escape: Value | None, ignores_case: bool) -> Value:
    a = _text(value, "~~*" if ignores_case else "~~")
    if escape is not None:
        given = _written(pattern, "The pattern of a LIKE with ESCAPE")
        b: exp.Expr = exp.Literal.string(patterns.like(given, _written(escape, "An escape")))
    elif pattern.quoted is not None:
        b = exp.Literal.string(patterns.like(pattern.quoted))
    else:
        b = _text(pattern, "~~")
    return truth(say("LOWER(@a) LIKE LOWER(@b)" if ignores_case else "@a LIKE @b", a=a, b=b))


def similar(value: Value, pattern: Value, escape: Value | None) -> Value:
    given = _written(pattern, "The pattern of SIMILAR TO")
    sign = "\\" if escape is None else _written(escape, "An escape")
    re2 = exp.Literal.string(patterns.similar(given, sign))
    return truth(say("REGEXP_CONTAINS(@a, @b)", a=_text(value, "similar to"), b=re2))


def matches(value: Value, pattern: Value, ignores_case: bool) -> Value:
    given = _written(pattern, "A regular expression")
    re2 = exp.Literal.string(patterns.regular(given, ignores_case).text)
    return truth(say("REGEXP_CONTAINS(@a, @b)", a=_text(value, "~"), b=re2))

"""A value as one of another type, when that is asked for (``x::type``), and as a text. Pure."""

from __future__ import annotations

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres.kinds import (
    GOOGLE,
    INTEGERS,
    NATIVE,
    Value,
    cast,
    coerced,
    decimal,
    literal,
    null,
    refused,
)
from ckanext.bigquery_datastore.backend.sql.postgres.template import say
from ckanext.bigquery_datastore.backend.table import conversion

_T = exp.DataType.Type

#: Types that may be cast to, by sqlglot's names.
TARGETS = {
    _T.SMALLINT: "int2",
    _T.INT: "int4",
    _T.BIGINT: "int8",
    _T.DECIMAL: "numeric",
    _T.DOUBLE: "float8",
    _T.FLOAT: "float8",
    _T.TEXT: "text",
    _T.VARCHAR: "text",
    _T.BOOLEAN: "bool",
    _T.DATE: "date",
    _T.TIME: "time",
    _T.TIMESTAMP: "timestamp",
    _T.TIMESTAMPNTZ: "timestamp",
    _T.TIMESTAMPTZ: "timestamptz",
    _T.UUID: "uuid",
}

#: PostgreSQL's text of a value, by its kind. ``@a`` is the value.
TEXTS = {
    **dict.fromkeys((*INTEGERS, "numeric", "bool", "date"), "CAST(@a AS STRING)"),
    **dict.fromkeys(("text", "uuid", "jsonb"), "@a"),
    "float8": conversion.float_text("@a"),
    "time": "FORMAT_TIME('%H:%M:%E*S', @a)",
    "timestamp": "FORMAT_DATETIME('%E4Y-%m-%d %H:%M:%E*S', @a)",
    "timestamptz": "FORMAT_TIMESTAMP('%E4Y-%m-%d %H:%M:%E*S+00', @a)",
}

#: The same where a function of texts takes anything: a truth has one letter there.
OUTPUTS = {**TEXTS, "bool": "CASE WHEN @a THEN 't' WHEN NOT @a THEN 'f' END"}

#: PostgreSQL rounds a float8 to the next even number where it stands between two.
HALF_EVEN = "IF(ABS(@a - TRUNC(@a)) = 0.5, 2 * ROUND(@a / 2), ROUND(@a))"

#: What BigQuery casts to the same value as PostgreSQL does.
_ALIKE = {
    **{kind: ("int2", "int4", "int8", "numeric", "text") for kind in INTEGERS},
    "numeric": (*INTEGERS, "text"),
    "float8": (*INTEGERS, "numeric", "text"),
    "date": ("timestamp", "timestamptz", "text"),
    "time": ("timestamp", "timestamptz", "text"),
    "timestamp": ("date", "timestamptz", "text"),
    "timestamptz": ("date", "timestamp", "text"),
}
_ALIKE["int4"] = (*_ALIKE["int4"], "bool")

_TRUE = "('t', 'tr', 'tru', 'true', 'y', 'ye', 'yes', 'on', '1')"
_FALSE = "('f', 'fa', 'fal', 'fals', 'false', 'n', 'no', 'of', 'off', '0')"

#: What needs words of its own: from, to -> how.
_OTHERWISE = {
    **{("float8", kind): f"CAST({HALF_EVEN} AS INT64)" for kind in INTEGERS},
    # By its 15 digits, as PostgreSQL makes a numeric of a float8.
    ("float8", "numeric"): "CAST(FORMAT('%.15g', @a) AS BIGNUMERIC)",
    ("text", "numeric"): "CAST(@a AS BIGNUMERIC)",
    ("int4", "bool"): "@a <> 0",
    ("text", "bool"): f"CASE WHEN LOWER(TRIM(@a)) IN {_TRUE} THEN TRUE "
    f"WHEN LOWER(TRIM(@a)) IN {_FALSE} THEN FALSE ELSE CAST(@a AS BOOL) END",
    ("text", "uuid"): "LOWER(@a)",
}


def to_text(value: Value, how: dict[str, str] = TEXTS) -> exp.Expr:
    """PostgreSQL's text of a value."""
    if value.quoted is not None:
        return exp.Literal.string(value.quoted)
    if value.is_null:
        return null("text")
    if value.kind not in how:
        raise refused(f"The text of {value.native} cannot be made in GoogleSQL")
    return say(how[value.kind], a=value.tree)


def cast_to(value: Value, to: exp.DataType) -> Value:
    """``value::type``."""
    kind = TARGETS.get(to.this) if isinstance(to.this, _T) else None
    if kind is None:
        raise refused(f"A cast to {str(to.this).rpartition('.')[2]} cannot be said in GoogleSQL")
    found = _converted(value, kind)
    return _measured(found, kind, [_number(part) for part in to.expressions])


def _number(part: exp.Expr) -> int:
    literal_ = part.this if isinstance(part, exp.DataTypeParam) else part
    if not isinstance(literal_, exp.Literal) or not literal_.is_int or len(literal_.name) > 8:
        raise refused("The length of a type must be a number")
    return int(literal_.name)


def _converted(value: Value, kind: str) -> exp.Expr:
    if value.quoted is not None:
        return literal(value.quoted, kind)
    if value.is_null:
        return null(kind)
    if value.number is not None and kind in ("float8", "numeric"):
        return coerced(value, kind)
    if kind == "text":
        return cast(value.tree, kind) if value.kind == "text" else to_text(value)
    if value.kind == kind:
        return value.tree
    if (value.kind, kind) in _OTHERWISE:
        return say(_OTHERWISE[value.kind, kind], a=value.tree)
    if value.kind in _ALIKE.get(kind, ()):
        return cast(value.tree, kind)
    raise refused(f"cannot cast type {value.native} to {NATIVE.get(kind, kind)}")


def _measured(tree: exp.Expr, kind: str, sizes: list[int]) -> Value:
    """A cast's value within the length that its type has: ``varchar(3)``, ``numeric(10, 2)``."""
    if not sizes:
        return Value(tree, kind)
    if kind == "text":
        return Value(say("LEFT(@a, @b)", a=tree, b=exp.Literal.number(sizes[0])), kind)
    if kind == "numeric":
        scale = exp.Literal.number(sizes[1] if len(sizes) > 1 else 0)
        if isinstance(tree, exp.Cast) and isinstance(tree.this, exp.Literal):
            tree = decimal(tree.this.name, tree.this.name)
        return Value(say("ROUND(@a, @b)", a=_as_numeric(tree), b=scale), kind)
    raise refused(f"A {NATIVE[kind]} of some length cannot be said in GoogleSQL")


def _as_numeric(tree: exp.Expr) -> exp.Expr:
    return tree if isinstance(tree, exp.Cast) else cast(tree, "numeric")


assert set(GOOGLE) >= set(TARGETS.values())

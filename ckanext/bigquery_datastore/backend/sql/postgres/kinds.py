"""PostgreSQL's types of values: which become which, and how their literals are written. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from sqlglot import exp

from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.backend.table.model import ID, Column
from ckanext.bigquery_datastore.errors import Invalid

UNKNOWN = "unknown"

#: What a value becomes where it meets one further on:
#: https://www.postgresql.org/docs/15/typeconv-oper.html
NUMBERS = ("int2", "int4", "int8", "numeric", "float8")
INTEGERS = NUMBERS[:3]
MOMENTS = ("date", "timestamp", "timestamptz")
_CHAINS = (NUMBERS, MOMENTS)

#: BigQuery's types, as sqlglot calls them, of the kinds that can be computed with.
GOOGLE = {
    "int2": "BIGINT",
    "int4": "BIGINT",
    "int8": "BIGINT",
    "numeric": "DECIMAL",
    "float8": "DOUBLE",
    "text": "TEXT",
    "uuid": "TEXT",
    "bool": "BOOLEAN",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "DATETIME",
    "timestamptz": "TIMESTAMPTZ",
}

#: What PostgreSQL calls them in its sentences.
NATIVE = {
    **{name: row.native for name, row in types.TYPES.items()},
    "interval": "interval",
    UNKNOWN: "unknown",
}

#: Kinds of columns that are the same to a query.
_ALIKE = {"varchar": "text", "bpchar": "text", "name": "text", "float4": "float8"}

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)

#: BigQuery's NUMERIC and BIGNUMERIC: digits before the point, and after it
#: (https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#decimal_types).
_NUMERIC, _BIGNUMERIC = (29, 9), (38, 38)


@dataclass(frozen=True)
class Parts:
    """A length of time as PostgreSQL keeps it: three numbers; None is none of it."""

    months: exp.Expr | None = None
    days: exp.Expr | None = None
    micros: exp.Expr | None = None


@dataclass(frozen=True)
class Value:
    """An expression in GoogleSQL with PostgreSQL's type.

    ``quoted`` is the text of a literal whose type is not known yet, ``number`` that of one with a
    point or an exponent, ``parts`` those of an interval.
    """

    tree: exp.Expr
    kind: str
    quoted: str | None = None
    number: str | None = None
    parts: Parts | None = None

    @property
    def is_null(self) -> bool:
        return self.kind == UNKNOWN and self.quoted is None

    @property
    def native(self) -> str:
        return NATIVE.get(self.kind, self.kind)


def refused(sentence: str) -> Invalid:
    return Invalid({"query": [sentence]})


def of_column(column: Column) -> str:
    """The kind of a column's values; one that is not in ``GOOGLE`` can only be looked at."""
    if column.repeated or column.bq_type in ("JSON", "GEOGRAPHY", "STRUCT", "RANGE", "BYTES"):
        return f"{column.type.name}"
    if column.name == ID:
        return "int4"
    return _ALIKE.get(column.type.name, column.type.name)


def common(one: str, other: str) -> str | None:
    """The kind of two values that have to be of one; None where there is none."""
    if one == other or other == UNKNOWN:
        return one
    if one == UNKNOWN:
        return other
    for chain in _CHAINS:
        if one in chain and other in chain:
            return max(one, other, key=chain.index)
    return None


def becomes(kind: str, wanted: str) -> bool:
    """Whether a value becomes one of the wanted kind by itself."""
    return common(kind, wanted) == wanted


def literal(text: str, kind: str) -> exp.Expr:
    """A quoted literal as a value of a kind, read as PostgreSQL reads it.

    :raises Invalid: it is none
    """
    if kind in ("text", UNKNOWN):
        return exp.Literal.string(text)
    if kind == "numeric":
        return decimal(text.strip(), text)
    if kind not in GOOGLE:
        raise refused(f"A literal of type {NATIVE.get(kind, kind)} cannot be said in GoogleSQL")
    try:
        written = types.TYPES[kind].write(text)
    except types.BadValue as err:
        raise refused(str(err)) from err
    if kind in INTEGERS:
        return whole(int(written))
    if kind == "bool":
        return exp.Boolean(this=written == "true")
    return cast(exp.Literal.string(written), kind)


def whole(number: int) -> exp.Expr:
    found = exp.Literal.number(str(abs(number)))
    return exp.Neg(this=found) if number < 0 else found


def decimal(text: str, given: str) -> exp.Expr:
    """A number with all its digits. One with a point is no FLOAT64 in PostgreSQL."""
    if not _NUMBER.fullmatch(text):
        raise refused(f'invalid input syntax for type numeric: "{given[:100]}"')
    number = Decimal(text)
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    size = (max(0, len(digits) + exponent) if number else 0, max(0, -exponent))
    plain = exp.Literal.string(types.values.plain_number(number))
    for wide, name in ((_NUMERIC, "DECIMAL"), (_BIGNUMERIC, "BIGDECIMAL")):
        if all(have <= most for have, most in zip(size, wide, strict=True)):
            return exp.Cast(this=plain, to=exp.DataType.build(name, dialect="bigquery"))
    raise refused(f"{given[:100]} has more digits than BigQuery's BIGNUMERIC holds")


def cast(tree: exp.Expr, kind: str) -> exp.Expr:
    to = exp.DataType(this=exp.DataType.Type[GOOGLE[kind]], nested=False)
    return exp.Cast(this=tree, to=to)


def null(kind: str) -> exp.Expr:
    return cast(exp.null(), kind) if kind in GOOGLE else exp.null()


def coerced(value: Value, kind: str) -> exp.Expr:
    """A value as one of a kind that it becomes by itself."""
    if value.quoted is not None:
        return literal(value.quoted, kind)
    if value.is_null:
        return null(kind)
    if value.number is not None and kind == "float8":
        found = exp.Literal.number(value.number.lstrip("-"))
        return exp.Neg(this=found) if value.number.startswith("-") else found
    if kind == value.kind or kind == UNKNOWN or (kind in NUMBERS and value.kind in NUMBERS):
        return value.tree  # GoogleSQL has the same order of numbers
    if becomes(value.kind, kind):
        return cast(value.tree, kind)
    raise refused(f"{value.native} cannot be taken as {NATIVE.get(kind, kind)}")


def unified(values: list[Value], place: str) -> str:
    """The one kind of the values of a CASE, a COALESCE, an IN …: PostgreSQL's rule 10.5."""
    found = UNKNOWN
    for value in values:
        both = common(found, value.kind)
        if both is None:
            one, other = NATIVE.get(found, found), value.native
            raise refused(f"{place} types {one} and {other} cannot be matched")
        found = both
    return "text" if found == UNKNOWN else found

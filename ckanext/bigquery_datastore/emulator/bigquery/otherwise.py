"""Operators and functions that DuckDB takes, and answers otherwise than BigQuery."""

from __future__ import annotations

import re

from sqlglot import exp
from sqlglot.expressions import Expression

CONCERNED = r"\bLIKE\b|\bISOWEEK\b|\b(?:ARRAY_TO_STRING|UNICODE|DIV|EXTRACT|ROUND)\s*\("

MACROS = (
    # NULL is left out, and of nothing else an empty text is made.
    "emu_joined(l, s) AS CASE WHEN l IS NULL OR s IS NULL THEN NULL "
    "ELSE coalesce(array_to_string(list_filter(l, lambda x: x IS NOT NULL), s), '') END",
    "emu_unicode(x) AS CASE WHEN x = '' THEN 0 ELSE unicode(x) END",
    # DuckDB's week begins on Monday, as ISO's does.
    "emu_isoweek(x) AS date_trunc('week', x)",
)

#: Parts of a second: BigQuery leaves the whole seconds out.
_FRACTIONS = {"MICROSECOND": 1_000_000, "MILLISECOND": 1_000}

#: bqemulator leaves the digits of DECIMAL to DuckDB, which has few; it can have 38 in all.
_NUMERIC = re.compile(r"\bDECIMAL(?:\(18, ?3\)|\b(?!\())")
_BIGNUMERIC = re.compile(r"\bDECIMAL\(38, ?5\)")


def widened(sql: str) -> str:
    """DuckDB's SQL with the digits of NUMERIC and BIGNUMERIC, as far as DuckDB has them."""
    return _BIGNUMERIC.sub("DECIMAL(38, 18)", _NUMERIC.sub("DECIMAL(38, 9)", sql))


def otherwise(node: Expression) -> Expression | None:
    """What stands for a node of BigQuery's; None where it can stay."""
    if isinstance(node, exp.Like) and not isinstance(node.parent, exp.Escape):
        # https://cloud.google.com/bigquery/docs/reference/standard-sql/operators#like_operator
        return exp.Escape(this=node.copy(), expression=exp.Literal.string("\\"))
    if isinstance(node, exp.ArrayToString) and node.args.get("null") is None:
        return _call("emu_joined", node.this, node.expression)
    if isinstance(node, exp.Unicode):
        return _call("emu_unicode", node.this)
    if isinstance(node, (exp.DatetimeTrunc, exp.TimestampTrunc, exp.DateTrunc)):
        unit = node.args.get("unit")
        return _call("emu_isoweek", node.this) if unit and unit.name == "ISOWEEK" else None
    if isinstance(node, exp.Extract) and node.this.name.upper() in _FRACTIONS:
        most = exp.Literal.number(_FRACTIONS[node.this.name.upper()])
        return exp.Mod(this=node.copy(), expression=most)
    if (
        isinstance(node, exp.Round)
        and _is_wide(node.this)
        and not isinstance(node.parent, exp.Cast)
    ):
        # DuckDB takes the digits from the type, too, and from all that meets it in a CASE.
        return exp.Cast(this=node.copy(), to=exp.DataType.build("BIGNUMERIC", dialect="bigquery"))
    if isinstance(node, exp.IntDiv) and isinstance(node.this, exp.Binary):
        # Written as an operator it would take the last part of a sum alone.
        found = node.copy()
        found.set("this", exp.Paren(this=found.this))
        return found
    return None


def _is_wide(node: Expression) -> bool:
    """Whether it is a quotient of BIGNUMERICs."""
    cast = node.this if isinstance(node, exp.Div) else None
    return isinstance(cast, exp.Cast) and cast.to.this == exp.DataType.Type.BIGDECIMAL


def _call(name: str, *arguments: Expression) -> exp.Anonymous:
    return exp.Anonymous(this=name, expressions=[argument.copy() for argument in arguments])

"""FLOAT64 as BigQuery compares and sorts it, where DuckDB does otherwise.

To BigQuery no number is NaN, not even NaN, and every comparison with it but ``<>`` is false; in
an order it stands before -inf. To DuckDB it is equal to itself and larger than any other.
https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#floating_point_types and
https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#comparison_operators_and_floating_points

Only statements that may meet a FLOAT64 are changed: those that name the type, or a table with
such a column. What a macro does for other types is gone before DuckDB plans the statement.
Not emulated: MIN, MAX, GREATEST and LEAST, which are NaN where one value is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bqemulator.catalog.models import TableFieldSchema
from sqlglot import exp
from sqlglot.expressions import Expression  # type: ignore[attr-defined]

# The columns of the table of that many names (project, dataset, table), None where there is none.
FieldsOf = Callable[[Sequence[str]], Sequence[TableFieldSchema] | None]

_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)

MACROS = (
    "emu_nan(x) AS typeof(x) IN ('DOUBLE', 'FLOAT') "
    "AND coalesce(isnan(try_cast(CAST(x AS VARCHAR) AS DOUBLE)), false)",
    # What is sorted by before the value itself.
    "emu_order(x) AS CASE WHEN emu_nan(x) THEN 0 WHEN x IS NOT NULL THEN 1 END",
)

_NAMED = re.compile(r"\b(?:FLOAT64|NaN)\b", re.IGNORECASE)
_PATHS = re.compile(r"`([^`]+)`|([\w-]+(?:\.[\w-]+){1,2})")


@dataclass(frozen=True)
class Floats:
    """Names of columns that a statement may mean: of FLOAT64, and of any other type."""

    names: frozenset[str]
    others: frozenset[str]

    def may_be(self, node: Expression | None) -> bool:
        """Whether an expression can be a FLOAT64, as far as one can see."""
        if isinstance(node, exp.Literal):
            return not node.is_string
        if isinstance(node, (exp.Boolean, exp.Null)):
            return False
        if isinstance(node, exp.Column):
            return node.name.lower() not in self.others
        return True


def floats_of(sql: str, fields_of: FieldsOf) -> Floats | None:
    """The FLOAT64s that a statement may meet; None where it meets none."""
    names: set[str] = set()
    others: set[str] = set()
    for fields in filter(None, map(fields_of, _names_of_tables(sql))):
        for field in fields:
            is_float = field.type.upper() in ("FLOAT", "FLOAT64")
            (names if is_float else others).add(field.name.lower())
    if not names and not _NAMED.search(sql):
        return None
    return Floats(frozenset(names), frozenset(others - names))


def _names_of_tables(sql: str) -> Iterator[Sequence[str]]:
    for quoted, plain in _PATHS.findall(sql):
        names = (quoted or plain).split(".", 2)
        if len(names) > 1:
            yield names


def compared(node: Expression, floats: Floats) -> Expression:
    """A comparison (or an order) as a call of our macros; any other node as it is."""
    if isinstance(node, exp.Order):
        return _ordered(node, floats)
    if isinstance(node, exp.In):
        return _among(node, floats)
    if isinstance(node, exp.Between):
        low = exp.GTE(this=node.this.copy(), expression=node.args["low"].copy())
        high = exp.LTE(this=node.this.copy(), expression=node.args["high"].copy())
        return exp.paren(exp.and_(compared(low, floats), compared(high, floats)))
    if not isinstance(node, _COMPARISONS) or isinstance(node.parent, (exp.Update, exp.Property)):
        return node
    if not (floats.may_be(node.this) and floats.may_be(node.expression)):
        return node
    low, high = (node.this, node.expression)
    if isinstance(node, (exp.GT, exp.GTE)):
        low, high = high, low
    if isinstance(high, exp.Literal):
        return node  # DuckDB's NaN is not below it, and not equal to it
    pairs = [(high, low)] if isinstance(low, exp.Literal) else [(high, low), (low, high)]
    if isinstance(node, (exp.EQ, exp.NEQ)):
        # The other side is equal to NaN only where it is NaN too: the plainer one is looked at.
        pairs = [min(pairs, key=lambda pair: sum(1 for _ in pair[0].walk()))]
    is_unequal = isinstance(node, exp.NEQ)
    return _unless_nan(node, pairs, exp.true() if is_unequal else exp.false())


def _unless_nan(
    node: Expression, pairs: Sequence[tuple[Expression, Expression]], otherwise: Expression
) -> Expression:
    """``otherwise`` where the first of a pair is NaN, and the second is known."""
    conditions = [
        exp.and_(_is_nan(side), other.copy().is_(exp.null()).not_())
        if isinstance(other, exp.Column)
        else _is_nan(side)
        for side, other in pairs
    ]
    return exp.Case(ifs=[exp.If(this=exp.or_(*conditions), true=otherwise)], default=node.copy())


def _is_nan(node: Expression) -> Expression:
    return exp.Anonymous(this="emu_nan", expressions=[node.copy()])


def _among(node: exp.In, floats: Floats) -> Expression:
    if isinstance(node.this, exp.Tuple) or not floats.may_be(node.this):
        return node
    return _unless_nan(node, [(node.this, exp.null())], exp.false())


def _ordered(node: exp.Order, floats: Floats) -> Expression:
    """Two terms for each that may be a FLOAT64: NaN or not, and the value."""
    query = node.parent
    if not isinstance(query, (exp.Select, exp.Window)):
        return node
    is_plain = isinstance(query, exp.Select) and not query.args.get("distinct")
    if isinstance(query, exp.Select) and not is_plain:
        return node
    columns = _columns(query) if isinstance(query, exp.Select) else {}
    terms: list[Expression] = []
    for term in node.expressions:
        found = columns.get(term.this.name.lower()) if _is_bare(term.this) else None
        value = found or term.this
        if isinstance(term, exp.Ordered) and floats.may_be(value) and not value.is_number:
            first = term.copy()
            first.set("this", exp.Anonymous(this="emu_order", expressions=[value.copy()]))
            terms.append(first)
        terms.append(term.copy())
    changed = node.copy()
    changed.set("expressions", terms)
    return changed


def _is_bare(node: Expression) -> bool:
    """Whether it may be the name, or the place, of a column of the result."""
    return (isinstance(node, exp.Column) and not node.table) or node.is_int


def _columns(query: exp.Select) -> Mapping[str, Any]:
    """The expressions of a SELECT by the names of its columns, and by their places."""
    found: dict[str, Any] = {}
    for place, column in enumerate(query.expressions, 1):
        if column.is_star:
            return found
        found[str(place)] = column.unalias()
        if column.alias:
            found[column.alias.lower()] = column.unalias()
    return found

"""One expression of a query, whatever it is: from PostgreSQL's tree to GoogleSQL's. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres import (
    arithmetic,
    casts,
    comparisons,
    intervals,
    moments,
)
from ckanext.bigquery_datastore.backend.sql.postgres.calls import Calls
from ckanext.bigquery_datastore.backend.sql.postgres.kinds import (
    GOOGLE,
    NUMBERS,
    UNKNOWN,
    Value,
    coerced,
    common,
    decimal,
    refused,
    unified,
    whole,
)
from ckanext.bigquery_datastore.backend.sql.postgres.reading import check_order, member, members
from ckanext.bigquery_datastore.backend.sql.postgres.scope import Field, Scope
from ckanext.bigquery_datastore.backend.sql.postgres.template import apart, say

#: The columns of a query inside of an expression, and its tree: see ``queries``.
Subquery = Callable[[exp.Query, Scope], tuple[exp.Query, tuple[Field, ...]]]


class Expressions(Calls):
    """Says expressions that stand in one scope."""

    def __init__(self, scope: Scope, subquery: Subquery) -> None:
        self.scope = scope
        self._subquery = subquery

    def value(self, node: exp.Expr) -> Value:
        """An expression as GoogleSQL.

        :raises Invalid: PostgreSQL would refuse it, or GoogleSQL has no words for it
        """
        for kind in type(node).__mro__:
            if kind in _SAID:
                return _SAID[kind](self, node)
        raise refused(f"Invalid query AST element: {type(node).__name__}")

    def truth(self, node: exp.Expr, place: str) -> exp.Expr:
        """A condition's tree."""
        found = self.value(node)
        if found.kind not in ("bool", UNKNOWN):
            raise refused(f"argument of {place} must be type boolean, not type {found.native}")
        return coerced(found, "bool")

    # --- names and literals ---

    def _column(self, node: exp.Column) -> Value:
        if isinstance(node.this, exp.Star):
            raise refused("Invalid query AST element: Star")
        table = node.table or None
        if node.args.get("db") and node.text("db") != "public":
            raise refused(f"column {node.name} does not exist")
        return self.scope.column(node.name, table)

    def _literal(self, node: exp.Literal) -> Value:
        if node.is_string:
            return Value(node.copy(), UNKNOWN, quoted=node.name)
        if node.name.isascii() and node.name.isdigit():
            number = int(node.name)
            if number < 2**63:
                return Value(whole(number), "int4" if number < 2**31 else "int8")
            return Value(decimal(node.name, node.name), "numeric")
        return Value(decimal(node.name, node.name), "numeric", number=node.name)

    def _null(self, node: exp.Expr) -> Value:
        return Value(exp.null(), UNKNOWN)

    def _boolean(self, node: exp.Boolean) -> Value:
        return Value(node.copy(), "bool")

    def _paren(self, node: exp.Paren) -> Value:
        found = self.value(node.this)
        if found.kind == UNKNOWN or found.parts is not None or found.number is not None:
            return found
        return Value(exp.Paren(this=found.tree), found.kind)

    # --- operators ---

    def _comparison(self, node: exp.Binary) -> Value:
        symbol = comparisons.SYMBOLS[type(node)]
        left, right = node.this, node.expression
        check_order(node)
        if isinstance(right, exp.Anonymous) and right.name.lower() == "all" and right.expressions:
            right = exp.All(this=right.expressions[0])
        if isinstance(right, (exp.Any, exp.All)):
            return self._quantified(symbol, left, right)
        if isinstance(left, exp.Tuple) or isinstance(right, exp.Tuple):
            return comparisons.rows(symbol, self._row(left), self._row(right))
        return comparisons.compare(symbol, self.value(left), self.value(right))

    def _row(self, node: exp.Expr) -> list[Value]:
        if not isinstance(node, exp.Tuple):
            raise refused("A row can only be compared with a row")
        return [self.value(part) for part in node.expressions]

    def _quantified(self, symbol: str, left: exp.Expr, right: exp.Expr) -> Value:
        """``= ANY (…)``, ``<> ALL (…)``, and others with a list."""
        is_any, source = isinstance(right, exp.Any), right.this
        while isinstance(source, (exp.Paren, exp.Subquery)):
            source = source.this
        value = self.value(left)
        if isinstance(source, exp.Query):
            if (symbol, is_any) not in (("=", True), ("<>", False)):
                raise refused(
                    f"{symbol} {'ANY' if is_any else 'ALL'} (SELECT …) cannot be said in "
                    "GoogleSQL: compare with the least or the greatest value"
                )
            found = self._in_query(value, source)
            return found if is_any else comparisons.truth(say("NOT (@a)", a=found.tree))
        items = self._items(source)
        if symbol == "=" and is_any:
            return comparisons.in_list(value, items)
        combined = comparisons.either if is_any else comparisons.both
        return combined([comparisons.compare(symbol, value, item) for item in items])

    def _items(self, node: exp.Expr) -> list[Value]:
        """The members of ``ARRAY[1, 2]`` or of ``'{1,2}'``."""
        if isinstance(node, exp.Cast) and isinstance(node.this, exp.Array):
            node = node.this
        if isinstance(node, exp.Array):
            items = [self.value(item) for item in node.expressions]
        elif isinstance(node, exp.Literal) and node.is_string:
            items = [member(text) for text in members(node.name)]
        else:
            raise refused("ANY and ALL can only look at a query, ARRAY[…] or '{…}' here")
        if not items:
            raise refused("ANY and ALL of no values cannot be said in GoogleSQL")
        return items

    def _arithmetic(self, node: exp.Binary) -> Value:
        check_order(node)
        symbol = arithmetic.SYMBOLS[type(node)]
        return arithmetic.computed(symbol, self.value(node.this), self.value(node.expression))

    def _joined(self, node: exp.DPipe) -> Value:
        return arithmetic.joined(self.value(node.this), self.value(node.expression))

    def _negative(self, node: exp.Neg) -> Value:
        return arithmetic.negative(self.value(node.this))

    def _connected(self, node: exp.Binary) -> Value:
        word = "AND" if isinstance(node, exp.And) else "OR"
        a, b = self.truth(node.this, word), self.truth(node.expression, word)
        return Value(type(node)(this=_under(a, word), expression=_under(b, word)), "bool")

    def _not(self, node: exp.Not) -> Value:
        return Value(exp.Not(this=apart(self.truth(node.this, "NOT"))), "bool")

    def _is(self, node: exp.Is) -> Value:
        check_order(node)
        wanted = node.expression
        if isinstance(wanted, exp.Boolean):
            return Value(exp.Is(this=apart(self.truth(node.this, "IS")), expression=wanted), "bool")
        if not isinstance(wanted, exp.Null):
            raise refused("IS can only be followed by NULL, TRUE, FALSE or UNKNOWN here")
        found = self.value(node.this)
        if found.parts is not None:
            found = intervals.length(found)
        tree = coerced(found, "text") if found.kind == UNKNOWN else found.tree
        return Value(exp.Is(this=apart(tree), expression=exp.null()), "bool")

    def _in(self, node: exp.In) -> Value:
        if query := node.args.get("query"):
            if isinstance(node.this, exp.Tuple):
                raise refused("A row IN (SELECT …) cannot be said in GoogleSQL: use EXISTS")
            return self._in_query(self.value(node.this), query.unnest())
        if isinstance(node.this, exp.Tuple):
            one = self._row(node.this)
            rows = [comparisons.rows("=", one, self._row(item)) for item in node.expressions]
            return comparisons.either(rows)
        items = [self.value(item) for item in node.expressions]
        return comparisons.in_list(self.value(node.this), items)

    def _in_query(self, value: Value, query: exp.Query) -> Value:
        tree, fields = self._subquery(query, self.scope)
        if len(fields) != 1:
            raise refused("subquery has too many columns")
        kind, asked = common(value.kind, fields[0].kind), fields[0].kind
        if kind is None or (kind != asked and kind not in NUMBERS) or asked not in GOOGLE:
            other = Value(exp.null(), asked).native
            raise refused(f"operator does not exist: {value.native} = {other}")
        if kind == "float8":
            # NaN is in no list of BigQuery's.
            raise refused(
                "IN (SELECT …) of double precision cannot be said in GoogleSQL: use EXISTS"
            )
        this = apart(coerced(value, kind))
        return Value(exp.In(this=this, query=exp.Subquery(this=tree)), "bool")

    def _between(self, node: exp.Between) -> Value:
        value, low, high = (self.value(node.args[part]) for part in ("this", "low", "high"))
        if node.args.get("symmetric"):
            either_way = [
                comparisons.between(value, low, high),
                comparisons.between(value, high, low),
            ]
            return comparisons.either(either_way)
        return comparisons.between(value, low, high)

    def _like(self, node: exp.Like | exp.ILike, escape: Value | None = None) -> Value:
        if isinstance(node.expression, (exp.Any, exp.All)):
            items = self._items(node.expression.this.unnest())
            value = self.value(node.this)
            found = [
                comparisons.like(value, item, None, isinstance(node, exp.ILike)) for item in items
            ]
            is_any = isinstance(node.expression, exp.Any)
            liked = comparisons.either(found) if is_any else comparisons.both(found)
        else:
            value, pattern = self.value(node.this), self.value(node.expression)
            liked = comparisons.like(value, pattern, escape, isinstance(node, exp.ILike))
        if node.args.get("negate"):
            return comparisons.truth(say("NOT (@a)", a=liked.tree))
        return liked

    def _similar(self, node: exp.SimilarTo, escape: Value | None = None) -> Value:
        return comparisons.similar(self.value(node.this), self.value(node.expression), escape)

    def _escape(self, node: exp.Escape) -> Value:
        escape = self.value(node.expression)
        if isinstance(node.this, exp.SimilarTo):
            return self._similar(node.this, escape)
        return self._like(node.this, escape)

    def _matches(self, node: exp.Binary) -> Value:
        check_order(node)
        ignores_case = isinstance(node, exp.RegexpILike)
        return comparisons.matches(self.value(node.this), self.value(node.expression), ignores_case)

    # --- what has words of its own ---

    def _case(self, node: exp.Case) -> Value:
        base = self.value(node.this) if node.this is not None else None
        conditions, values = [], []
        for branch in node.args["ifs"]:
            if base is not None:
                found = comparisons.compare("=", base, self.value(branch.this))
                conditions.append(found.tree)
            else:
                conditions.append(self.truth(branch.this, "CASE/WHEN"))
            values.append(self.value(branch.args["true"]))
        default = node.args.get("default")
        if default is not None:
            values.append(self.value(default))
        kind = unified(values, "CASE")
        trees = [coerced(value, kind) for value in values]
        ifs = [
            exp.If(this=condition, true=tree)
            for condition, tree in zip(conditions, trees, strict=False)
        ]
        return Value(exp.Case(ifs=ifs, default=None if default is None else trees[-1]), kind)

    def _cast(self, node: exp.Cast) -> Value:
        to = node.to
        value = self.value(node.this)
        if to.this == exp.DataType.Type.INTERVAL:
            return intervals.of(value)
        return casts.cast_to(value, to)

    def _interval(self, node: exp.Interval) -> Value:
        unit = node.args.get("unit")
        if not isinstance(node.this, exp.Literal) or not isinstance(unit, (exp.Var, type(None))):
            raise refused("This interval cannot be said in GoogleSQL")
        return intervals.literal(node.this.name, unit.name if unit is not None else None)

    def _extract(self, node: exp.Extract) -> Value:
        return moments.extract(node.this.name, self.value(node.expression))

    def _at_time_zone(self, node: exp.AtTimeZone) -> Value:
        return moments.at_time_zone(self.value(node.this), self.value(node.args["zone"]))

    def _exists(self, node: exp.Exists) -> Value:
        query = node.this.unnest()
        if not isinstance(query, exp.Query):
            raise refused("EXISTS can only be followed by a query")
        tree, _ = self._subquery(query, self.scope)
        return Value(exp.Exists(this=tree), "bool")

    def _scalar(self, node: exp.Subquery) -> Value:
        query = node.unnest()
        if not isinstance(query, exp.Query):
            raise refused("subquery must be a query")
        tree, fields = self._subquery(query, self.scope)
        if len(fields) != 1:
            raise refused("subquery must return only one column")
        return Value(exp.Subquery(this=tree), fields[0].kind)

    def _today(self, node: exp.Expr) -> Value:
        return Value(say("CURRENT_DATE()"), "date")

    def _now(self, node: exp.Expr) -> Value:
        return Value(say("CURRENT_TIMESTAMP()"), "timestamptz")

    def _local_now(self, node: exp.Expr) -> Value:
        return Value(say("CURRENT_DATETIME()"), "timestamp")


def _under(tree: exp.Expr, word: str) -> exp.Expr:
    """An operand of AND or OR."""
    is_torn = word == "AND" and isinstance(tree, exp.Or)
    return exp.Paren(this=tree) if is_torn else tree


_SAID: dict[type[Any], Callable[[Expressions, Any], Value]] = {
    exp.Column: Expressions._column,
    exp.Literal: Expressions._literal,
    exp.Null: Expressions._null,
    exp.Boolean: Expressions._boolean,
    exp.Paren: Expressions._paren,
    **dict.fromkeys(comparisons.SYMBOLS, Expressions._comparison),
    **dict.fromkeys(arithmetic.SYMBOLS, Expressions._arithmetic),
    exp.DPipe: Expressions._joined,
    exp.Neg: Expressions._negative,
    exp.And: Expressions._connected,
    exp.Or: Expressions._connected,
    exp.Not: Expressions._not,
    exp.Is: Expressions._is,
    exp.In: Expressions._in,
    exp.Between: Expressions._between,
    exp.Like: Expressions._like,
    exp.ILike: Expressions._like,
    exp.SimilarTo: Expressions._similar,
    exp.Escape: Expressions._escape,
    exp.RegexpLike: Expressions._matches,
    exp.RegexpILike: Expressions._matches,
    exp.Case: Expressions._case,
    exp.Cast: Expressions._cast,
    exp.Interval: Expressions._interval,
    exp.Extract: Expressions._extract,
    exp.AtTimeZone: Expressions._at_time_zone,
    exp.Exists: Expressions._exists,
    exp.Subquery: Expressions._scalar,
    exp.CurrentDate: Expressions._today,
    exp.CurrentTimestamp: Expressions._now,
    exp.Localtimestamp: Expressions._local_now,
    exp.Anonymous: Expressions._call,
    exp.Trim: Expressions._trim,
    exp.StrPosition: Expressions._position,
    exp.Substring: Expressions._substring,
    exp.Filter: Expressions._filter,
    exp.Window: Expressions._window,
}

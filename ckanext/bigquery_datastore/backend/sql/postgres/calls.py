"""Calls of functions, of aggregates with FILTER and of those over windows. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres import aggregates, functions
from ckanext.bigquery_datastore.backend.sql.postgres.kinds import UNKNOWN, Value, coerced, refused
from ckanext.bigquery_datastore.backend.sql.postgres.ordering import frame, inside, order_terms
from ckanext.bigquery_datastore.backend.sql.postgres.scope import Scope
from ckanext.bigquery_datastore.backend.sql.postgres.template import say


class Calls(ABC):
    """The part of ``Expressions`` that says calls."""

    scope: Scope

    @abstractmethod
    def value(self, node: exp.Expr) -> Value: ...

    @abstractmethod
    def truth(self, node: exp.Expr, place: str) -> exp.Expr: ...

    def _call(self, node: exp.Anonymous) -> Value:
        name = node.name.lower()
        if name in aggregates.NAMES:
            return self._aggregate(node, None)
        if name in aggregates.WINDOWS:
            raise refused(f"window function {name} requires an OVER clause")
        return functions.call(name, [self.value(part) for part in node.expressions])

    def _trim(self, node: exp.Trim) -> Value:
        name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(node.text("position").upper(), "btrim")
        parts = [part for part in (node.this, node.args.get("expression")) if part is not None]
        return functions.call(name, [self.value(part) for part in parts])

    def _position(self, node: exp.StrPosition) -> Value:
        return functions.call("strpos", [self.value(node.this), self.value(node.args["substr"])])

    def _substring(self, node: exp.Substring) -> Value:
        parts = [node.args.get(part) for part in ("this", "start", "length")]
        values = [self.value(part) for part in parts if part is not None]
        return functions.call("substring", values)

    def _aggregate(self, node: exp.Anonymous, condition: exp.Expr | None) -> Value:
        parts: list[exp.Expr] = list(node.expressions)
        order: list[exp.Expr] = []
        if parts and isinstance(parts[-1], exp.Order):
            order = list(parts[-1].expressions)
            parts[-1] = parts[-1].this
        is_distinct = bool(parts) and isinstance(parts[0], exp.Distinct)
        if is_distinct:
            parts = [*parts[0].expressions, *parts[1:]]
            if parts and isinstance(parts[-1], exp.Order):
                order = list(parts[-1].expressions)
                parts[-1] = parts[-1].this
        is_star = len(parts) == 1 and isinstance(parts[0], exp.Star)
        call = aggregates.Call(
            node.name.lower(),
            [] if is_star else [self.value(part) for part in parts],
            is_distinct,
            is_star,
            condition,
            [self.ordered(term)[-1] for term in order],
        )
        return aggregates.aggregated(call)

    def _filter(self, node: exp.Filter) -> Value:
        if not is_aggregate(node.this):
            raise refused("FILTER specified, but it is no aggregate function")
        return self._aggregate(node.this, self.truth(node.expression.this, "FILTER"))

    def _window(self, node: exp.Window) -> Value:
        inner = node.this
        if isinstance(inner, exp.Anonymous) and inner.name.lower() in aggregates.WINDOWS:
            parts = [self.value(part) for part in inner.expressions]
            found = aggregates.windowed(inner.name.lower(), parts)
        elif is_aggregate(inner) or isinstance(inner, exp.Filter):
            found = self.value(inner)
            if found.tree.find(exp.Distinct) is not None:
                raise refused("DISTINCT is not implemented for window functions")
        else:
            raise refused("OVER specified, but it is no window function nor an aggregate function")
        window = self.window(node)
        if isinstance(inner, exp.Anonymous) and inner.name.lower() in aggregates.UNFRAMED:
            window.set("spec", None)  # of no meaning there, and refused by BigQuery
        return aggregates.over(found, window)

    def window(self, node: exp.Expr) -> exp.Window:
        """What stands after OVER, without the function before it."""
        base = node.args.get("alias")
        if base is not None:
            named = self.scope.windows.get(base.name)
            if named is None:
                raise refused(f'window "{base.name}" does not exist')
            if any(node.args.get(part) for part in ("partition_by", "order", "spec")):
                raise refused("A window that changes a named one cannot be said in GoogleSQL")
            return self.window(named)
        found = exp.Window(over="OVER")
        parts = [self.grouped(self.value(part)) for part in node.args.get("partition_by") or []]
        if parts:
            found.set("partition_by", parts)
        order = node.args.get("order")
        if order is not None:
            terms = [term for part in order.expressions for term in self.ordered(part)]
            found.set("order", exp.Order(expressions=inside(terms)))
        spec = node.args.get("spec")
        if spec is not None:
            found.set("spec", frame(spec))
        return found

    def grouped(self, value: Value) -> exp.Expr:
        """What rows are put together by: BigQuery makes no partitions of floats."""
        if value.kind == "float8":
            return say("CAST(@a + 0.0 AS STRING)", a=value.tree)
        return coerced(value, "text") if value.kind == UNKNOWN else value.tree

    def ordered(self, node: exp.Expr) -> list[exp.Ordered]:
        """A term of an ORDER BY; of floats two, as NaN is the greatest of them here."""
        return order_terms(self.value(node.this), node)


def is_aggregate(node: exp.Expr) -> bool:
    return isinstance(node, exp.Anonymous) and node.name.lower() in aggregates.NAMES

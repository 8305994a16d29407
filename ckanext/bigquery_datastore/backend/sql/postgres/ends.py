"""GROUP BY, DISTINCT and ORDER BY, which may name the outputs of their query. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres.expressions import Expressions
from ckanext.bigquery_datastore.backend.sql.postgres.kinds import GOOGLE, UNKNOWN, Value, refused
from ckanext.bigquery_datastore.backend.sql.postgres.ordering import inside, order_terms
from ckanext.bigquery_datastore.backend.sql.postgres.template import say
from ckanext.bigquery_datastore.errors import Invalid


@dataclass(frozen=True)
class Output:
    """A column of a result: PostgreSQL's name, the one that it has in GoogleSQL, its value."""

    name: str
    alias: str
    value: Value


class Ends:
    """GROUP BY, DISTINCT and ORDER BY of a query whose outputs are known.

    ``expressions`` is None after a set of queries, where nothing else can be named.
    """

    def __init__(
        self, node: exp.Expr, outputs: Sequence[Output], expressions: Expressions | None
    ) -> None:
        self._node = node
        self._outputs = outputs
        self._expressions = expressions
        self._terms: list[tuple[Value, exp.Ordered, Output | None]] = [
            self._term(ordered) for ordered in self._ordered()
        ]

    def _ordered(self) -> list[exp.Ordered]:
        order = self._node.args.get("order")
        return list(order.expressions) if order is not None else []

    def _place(self, node: exp.Expr) -> Output | None:
        """The output of a number."""
        if not isinstance(node, exp.Literal) or node.is_string:
            return None
        if not node.is_int or not 0 < int(node.name) <= len(self._outputs):
            raise refused(f"position {node.name[:20]} is not in select list")
        return self._outputs[int(node.name) - 1]

    def _named(self, node: exp.Expr) -> Output | None:
        """The output of a name."""
        if not isinstance(node, exp.Column) or node.table:
            return None
        found = [output for output in self._outputs if output.name == node.name]
        if len({output.value.tree.sql() for output in found}) > 1:
            raise refused(f'ORDER BY "{node.name}" is ambiguous')
        return found[0] if found else None

    def _same(self, value: Value) -> Output | None:
        """The output of an expression that was written once more."""
        for output in self._outputs:
            if output.value.tree == value.tree and output.value.parts == value.parts:
                return output
        return None

    def _term(self, ordered: exp.Ordered) -> tuple[Value, exp.Ordered, Output | None]:
        found = self._place(ordered.this) or self._named(ordered.this)
        if found is not None:
            return found.value, ordered, found
        if self._expressions is None:
            raise refused("Only result column names can be used after UNION, INTERSECT or EXCEPT")
        value = self._expressions.value(ordered.this)
        return value, ordered, self._same(value)

    def group(self, node: exp.Group) -> exp.Group:
        if any(node.args.get(part) for part in ("all", "totals")):
            raise refused("Invalid query AST element: Group")
        found = exp.Group(expressions=[self._grouped(part) for part in node.expressions])
        for part in ("rollup", "cube", "grouping_sets"):
            sets = node.args.get(part) or []
            found.set(part, [self._set_of(one) for one in sets] or None)
        return found

    def _set_of(self, node: exp.Expr) -> exp.Expr:
        """A part of ROLLUP, CUBE, GROUPING SETS."""
        if isinstance(node, (exp.Rollup, exp.Cube, exp.GroupingSets, exp.Tuple)):
            return type(node)(expressions=[self._set_of(part) for part in node.expressions])
        if isinstance(node, exp.Paren):
            return exp.Paren(this=self._set_of(node.this))
        assert self._expressions is not None
        return self._expressions.value(node).tree

    def _grouped(self, node: exp.Expr) -> exp.Expr:
        if isinstance(node, (exp.Tuple, exp.Rollup, exp.Cube, exp.GroupingSets)):
            raise refused("This GROUP BY cannot be said in GoogleSQL")
        assert self._expressions is not None
        output = self._place(node)
        if output is None and isinstance(node, exp.Column) and not node.table:
            # A column of the tables goes before an output of the same name.
            try:
                self._expressions.value(node)
            except Invalid:
                output = self._named(node)
                if output is None:
                    raise
        if output is None:
            value = self._expressions.value(node)
            if value.kind not in GOOGLE and value.kind != UNKNOWN:
                raise refused(f"GROUP BY {value.native} cannot be said in GoogleSQL")
            output = None if isinstance(value.tree, exp.Column) else self._same(value)
            if output is None:
                return value.tree
        return exp.Literal.number(self._outputs.index(output) + 1)

    def distinct(self, tree: exp.Select) -> None:
        distinct = self._node.args.get("distinct")
        if distinct is None:
            return
        keys = distinct.args.get("on")
        if keys is None:
            for output in self._outputs:
                if output.value.kind not in GOOGLE and output.value.kind != UNKNOWN:
                    raise refused(f"DISTINCT of {output.value.native} cannot be said in GoogleSQL")
            tree.set("distinct", exp.Distinct())
            for _, _, output in self._terms:
                if output is None:
                    raise refused(
                        "for SELECT DISTINCT, ORDER BY expressions must appear in select list"
                    )
            return
        self._first_of_each(tree, keys.expressions if isinstance(keys, exp.Tuple) else [keys])

    def _first_of_each(self, tree: exp.Select, keys: Sequence[exp.Expr]) -> None:
        """DISTINCT ON: the first row of those that are alike, by the order of the query."""
        assert self._expressions is not None
        parts = []
        for key in keys:
            output = self._place(key) or self._named(key)
            value = output.value if output is not None else self._expressions.value(key)
            parts.append(self._expressions.grouped(value))
        window = exp.Window(this=exp.RowNumber(), partition_by=parts, over="OVER")
        order = [term for value, ordered, _ in self._terms for term in order_terms(value, ordered)]
        if order:
            window.set("order", exp.Order(expressions=inside(order)))
        tree.set("qualify", exp.Qualify(this=say("@a = 1", a=window)))
        if not any(tree.args.get(part) for part in ("where", "group", "having")):
            # https://cloud.google.com/bigquery/docs/reference/standard-sql/query-syntax#qualify_clause
            tree.set("where", exp.Where(this=exp.true()))

    def order(self, tree: exp.Query) -> None:
        terms = []
        for value, ordered, output in self._terms:
            if output is not None and value.parts is None:
                named = exp.Column(this=exp.to_identifier(output.alias, quoted=True))
                value = Value(named, value.kind if value.kind != UNKNOWN else "text")
            terms += order_terms(value, ordered)
        if terms:
            tree.set("order", exp.Order(expressions=terms))

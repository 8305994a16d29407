"""SELECT with all of its clauses, and sets of them: PostgreSQL's tree as GoogleSQL's. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres.expressions import (
    Expressions,
    inside,
    order_terms,
)
from ckanext.bigquery_datastore.backend.sql.postgres.kinds import (
    GOOGLE,
    UNKNOWN,
    Value,
    cast,
    coerced,
    common,
    refused,
)
from ckanext.bigquery_datastore.backend.sql.postgres.naming import NAMELESS, name_of
from ckanext.bigquery_datastore.backend.sql.postgres.scope import Field, Scope
from ckanext.bigquery_datastore.backend.sql.postgres.sources import Sources, Tables
from ckanext.bigquery_datastore.backend.sql.postgres.template import say
from ckanext.bigquery_datastore.backend.sql.write import check_name
from ckanext.bigquery_datastore.backend.table.model import stored_names
from ckanext.bigquery_datastore.errors import Invalid

_MOST = 2**63 - 1


@dataclass(frozen=True)
class Output:
    """A column of a result: PostgreSQL's name, the one that it has in GoogleSQL, its value."""

    name: str
    alias: str
    value: Value


@dataclass
class Result:
    """A query that was said, but for the kinds of its outputs: a UNION around it decides them."""

    tree: exp.Query
    outputs: list[Output]
    is_star: bool = False
    arms: list[Result] = field(default_factory=list)

    def finished(self, kinds: Sequence[str] | None = None) -> tuple[exp.Query, tuple[Field, ...]]:
        """The tree, its outputs of the kinds that are given, or of their own."""
        own = [output.value.kind for output in self.outputs]
        kinds = ["text" if kind == UNKNOWN else kind for kind in kinds or own]
        for arm, part in zip(self.arms, ("this", "expression"), strict=False):
            arm_tree, _ = arm.finished(kinds)
            self.tree.set(part, _arm(arm_tree, self.tree))
        if isinstance(self.tree, exp.Select):
            shown = zip(self.outputs, kinds, strict=True)
            is_star = self.is_star and kinds == own
            listed = [_shown(output, kind) for output, kind in shown]
            self.tree.set("expressions", [exp.Star()] if is_star else listed)
        fields = zip(self.outputs, kinds, strict=True)
        return self.tree, tuple(Field(o.name, kind, o.alias) for o, kind in fields)


def _shown(output: Output, kind: str) -> exp.Expr:
    value = output.value
    if value.parts is not None:
        raise refused(
            "An interval can only be used inside of an expression: "
            "its seconds are extract(epoch from …)"
        )
    tree = coerced(value, kind)
    # GoogleSQL would give the numbers of a UNION a type of its own.
    if kind != value.kind and kind in GOOGLE and value.kind in GOOGLE and value.number is None:
        tree = cast(value.tree, kind)
    if isinstance(tree, exp.Column) and tree.name == output.alias:
        return tree.copy()
    return exp.Alias(this=tree.copy(), alias=exp.to_identifier(output.alias, quoted=True))


def _arm(tree: exp.Query, around: exp.Query) -> exp.Query:
    """A part of a set, in parentheses where it would be read otherwise."""
    ends = any(tree.args.get(part) for part in ("order", "limit", "offset", "with_"))
    is_alike = type(tree) is type(around) and tree.args.get("distinct") == around.args.get(
        "distinct"
    )
    if ends or (isinstance(tree, exp.SetOperation) and not is_alike):
        return exp.Subquery(this=tree)
    return tree


class Queries:
    """Says queries that read some tables."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def subquery(
        self, node: exp.Query, around: Scope | None
    ) -> tuple[exp.Query, tuple[Field, ...]]:
        return self.query(node, around).finished()

    def query(self, node: exp.Expr, around: Scope | None = None) -> Result:
        """A query in a scope."""
        scope = Scope(around)
        ctes = self._ctes(node, scope)
        if isinstance(node, exp.Select):
            result = self._select(node, scope)
        elif isinstance(node, exp.SetOperation):
            result = self._set(node, scope)
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Query):
            return self.query(_unwrapped(node), around)
        else:
            raise refused(f"Invalid query AST element: {type(node).__name__}")
        if ctes:
            result.tree.set("with_", exp.With(expressions=ctes))
        return result

    def _ctes(self, node: exp.Expr, scope: Scope) -> list[exp.CTE]:
        found = []
        with_ = node.args.get("with_") or node.args.get("with")
        for cte in with_.expressions if with_ is not None else []:
            tree, fields = self.subquery(cte.this, scope)
            names = [column.name for column in cte.args["alias"].args.get("columns") or []]
            if len(names) > len(fields):
                raise refused(f'WITH query "{cte.alias}" has too many columns')
            renamed = [
                Field(name, column.kind, column.stored)
                for name, column in zip(names, fields, strict=False)
            ]
            if cte.alias in scope.ctes:
                raise refused(f'WITH query name "{cte.alias}" specified more than once')
            scope.ctes[cte.alias] = (*renamed, *fields[len(names) :])
            alias = exp.TableAlias(this=exp.to_identifier(cte.alias, quoted=True))
            found.append(exp.CTE(this=tree, alias=alias))
        return found

    # --- SELECT ---

    def _select(self, node: exp.Select, scope: Scope) -> Result:
        if node.args.get("qualify"):
            raise refused("Invalid query AST element: Qualify")
        tree = exp.Select()
        expressions = Expressions(scope, self.subquery)
        sources = Sources(scope, self._tables, self.subquery)
        if (from_ := node.args.get("from_") or node.args.get("from")) is not None:
            source, relation = sources.source(from_.this)
            scope.add(relation)
            tree.set("from_", exp.From(this=source))
        joins = [sources.join(join, expressions) for join in node.args.get("joins") or []]
        tree.set("joins", joins or None)
        for window in node.args.get("windows") or []:
            scope.windows[window.name] = window
        if (where := node.args.get("where")) is not None:
            tree.set("where", exp.Where(this=expressions.truth(where.this, "WHERE")))
        outputs, is_star = self._outputs(node, scope, expressions)
        scope.hidden = {
            output.alias.lower()
            for output in outputs
            if not (isinstance(output.value.tree, exp.Column) and not output.value.tree.table)
            or output.value.tree.name != output.alias
        }
        ends = _Ends(node, outputs, expressions)
        if (group := node.args.get("group")) is not None:
            tree.set("group", ends.group(group))
        if (having := node.args.get("having")) is not None:
            tree.set("having", exp.Having(this=expressions.truth(having.this, "HAVING")))
        ends.distinct(tree)
        ends.order(tree)
        _limit(node, tree)
        return Result(tree, outputs, is_star)

    def _outputs(
        self, node: exp.Select, scope: Scope, expressions: Expressions
    ) -> tuple[list[Output], bool]:
        """The outputs; whether they are one table as it is."""
        names: list[str] = []
        wishes: list[str] = []
        values: list[Value] = []
        for item in node.expressions:
            if item.is_star and not isinstance(item, exp.Alias):
                if isinstance(item, exp.Star) and any(item.args.values()):
                    raise refused("Invalid query AST element: Star")
                if not scope.relations:
                    raise refused("SELECT * with no tables specified is not valid")
                table = item.table if isinstance(item, exp.Column) else None
                for column, tree in scope.stars(table or None):
                    names.append(column.name)
                    wishes.append(column.stored)
                    values.append(Value(tree, column.kind))
                continue
            inner = item.this if isinstance(item, exp.Alias) else item
            name = item.alias if isinstance(item, exp.Alias) else name_of(item)
            value = expressions.value(inner)
            is_column = isinstance(value.tree, exp.Column) and inner is item
            check_name(name)
            names.append(name)
            wish = value.tree.name if is_column else name
            wishes.append("column" if name == NAMELESS else wish)
            values.append(value)
        if not values:
            raise refused("A SELECT needs an output")
        aliases = stored_names(wishes)
        rows = zip(names, aliases, values, strict=True)
        outputs = [Output(name, alias, value) for name, alias, value in rows]
        is_star = (
            len(node.expressions) == 1
            and isinstance(node.expressions[0], exp.Star)
            and len(scope.relations) == 1
            and aliases == wishes
        )
        if is_star:
            for output in outputs:
                output.value.tree.set("table", None)
        return outputs, is_star

    # --- UNION, INTERSECT, EXCEPT ---

    def _set(self, node: exp.SetOperation, scope: Scope) -> Result:
        word = type(node).__name__.upper()
        is_distinct = bool(node.args.get("distinct"))
        if not is_distinct and not isinstance(node, exp.Union):
            raise refused(f"{word} ALL cannot be said in GoogleSQL, only {word}")
        if isinstance(node, exp.Intersect) and isinstance(node.this, (exp.Union, exp.Except)):
            raise refused("Put parentheses around the INTERSECT: it goes first in PostgreSQL")
        if any(node.args.get(part) for part in ("by_name", "side", "kind", "on")):
            raise refused(f"Invalid query AST element: {word}")
        arms = [self.query(node.this, scope), self.query(node.expression, scope)]
        if len(arms[0].outputs) != len(arms[1].outputs):
            raise refused(f"each {word} query must have the same number of columns")
        outputs = []
        for one, other in zip(arms[0].outputs, arms[1].outputs, strict=True):
            kind = common(one.value.kind, other.value.kind)
            if kind is None or one.value.parts or other.value.parts:
                a, b = one.value.native, other.value.native
                raise refused(f"{word} types {a} and {b} cannot be matched")
            if is_distinct and kind not in GOOGLE and kind != UNKNOWN:
                raise refused(f"{word} of {one.value.native} cannot be said in GoogleSQL")
            column = exp.Column(this=exp.to_identifier(one.alias, quoted=True))
            outputs.append(Output(one.name, one.alias, _output_value(kind, column, one, other)))
        tree = type(node)(distinct=is_distinct)
        ends = _Ends(node, outputs, None)
        ends.order(tree)
        _limit(node, tree)
        return Result(tree, outputs, arms=arms)


def _output_value(kind: str, column: exp.Column, one: Output, other: Output) -> Value:
    """What a UNION's output is to one around it: still unknown, where both sides are."""
    if kind == UNKNOWN:
        quoted = one.value.quoted if one.value.quoted is not None else other.value.quoted
        return Value(column, "text" if quoted is not None else UNKNOWN)
    return Value(column, kind)


def _unwrapped(node: exp.Subquery) -> exp.Expr:
    """The query in parentheses; what follows them belongs to it, where it has no end of its own."""
    inner = node.this
    ends = {part: node.args.get(part) for part in ("order", "limit", "offset", "with_")}
    if not any(ends.values()):
        return inner
    if any(inner.args.get(part) for part in ends) or isinstance(inner, exp.Subquery):
        raise refused("A query in parentheses with two ends cannot be said here")
    for part, value in ends.items():
        inner.set(part, value)
    return inner


class _Ends:
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


def _limit(node: exp.Expr, tree: exp.Query) -> None:
    limit, offset = node.args.get("limit"), node.args.get("offset")
    if limit is not None and not isinstance(limit, exp.Limit):
        raise refused("Invalid query AST element: Fetch")
    if limit is not None and not isinstance(limit.expression, exp.Null):
        tree.set("limit", exp.Limit(expression=limit.expression.copy()))
    if offset is not None:
        tree.set("offset", exp.Offset(expression=offset.expression.copy()))
        if not tree.args.get("limit"):
            # GoogleSQL has no OFFSET without LIMIT.
            tree.set("limit", exp.Limit(expression=exp.Literal.number(_MOST)))

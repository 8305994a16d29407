"""SELECT with all of its clauses, and sets of them: PostgreSQL's tree as GoogleSQL's. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres.ends import Ends, Output
from ckanext.bigquery_datastore.backend.sql.postgres.expressions import Expressions
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
from ckanext.bigquery_datastore.backend.sql.write import check_name
from ckanext.bigquery_datastore.backend.table.model import stored_names

_MOST = 2**63 - 1


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
        ends = Ends(node, outputs, expressions)
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
        ends = Ends(node, outputs, None)
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

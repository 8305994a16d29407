"""FROM with its joins: what it reads, and which names it gives to the rest of the query. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres.expressions import Expressions
from ckanext.bigquery_datastore.backend.sql.postgres.kinds import (
    GOOGLE,
    NATIVE,
    common,
    of_column,
    refused,
)
from ckanext.bigquery_datastore.backend.sql.postgres.scope import Field, Relation, Scope
from ckanext.bigquery_datastore.backend.sql.rules import is_own
from ckanext.bigquery_datastore.backend.table.model import Table

Tables = Mapping[str, Table]
Derived = Callable[[exp.Query, Scope | None], tuple[exp.Query, tuple[Field, ...]]]


class Sources:
    """Says the FROM of one SELECT, and fills the SELECT's scope."""

    def __init__(self, scope: Scope, tables: Tables, derived: Derived) -> None:
        self._scope = scope
        self._tables = tables
        self._derived = derived

    def source(self, node: exp.Expr) -> tuple[exp.Expr, Relation]:
        """A table or a query, and its relation."""
        if node.args.get("joins"):
            raise refused("A join in parentheses cannot be said here: put it into a SELECT")
        if isinstance(node, exp.Table):
            return self._table(node)
        query = node.unnest() if isinstance(node, exp.Subquery) else None
        if isinstance(query, exp.Query) and not isinstance(query, exp.Table):
            if not node.alias:
                raise refused("subquery in FROM must have an alias")
            tree, fields = self._derived(query, self._scope.around)
            return exp.Subquery(this=tree, alias=_alias(node.alias)), Relation(node.alias, fields)
        raise refused(f"Invalid query AST element: {type(node).__name__}")

    def _table(self, node: exp.Table) -> tuple[exp.Expr, Relation]:
        alias = node.alias or node.name
        if is_own(node):
            fields = self._scope.cte(node.name)
            if fields is None:
                raise refused(f'relation "{node.name}" does not exist')
            tree = exp.Table(this=_quoted(node.name), alias=_alias(alias) if node.alias else None)
            return tree, Relation(alias, fields)
        table = self._tables[node.name]
        tree = exp.Table(
            this=_quoted(table.id),
            db=_quoted(table.dataset),
            catalog=_quoted(table.project),
            alias=_alias(alias),
        )
        fields = tuple(
            Field(column.name, of_column(column), column.stored or column.name)
            for column in table.columns
        )
        return tree, Relation(alias, fields)

    def join(self, node: exp.Join, expressions: Expressions) -> exp.Join:
        """One join; its relation is in the scope from here on."""
        side, kind = node.side.upper(), node.kind.upper()
        method = str(node.args.get("method") or "").upper()
        if kind not in ("", "INNER", "CROSS", "OUTER") or method not in ("", "NATURAL"):
            raise refused(f"Invalid query AST element: {kind or method} JOIN")
        tree, relation = self.source(node.this)
        using = [part.name for part in node.args.get("using") or []]
        if method == "NATURAL":
            left = set(self._left_names())
            using = [column.name for column in relation.fields if column.name in left]
        shared = [self._merged(name, relation) for name in using]
        self._scope.add(relation)
        found = exp.Join(this=tree, side=side or None, kind=kind or None)
        on = node.args.get("on")
        if shared:
            self._scope.merged.update({column.name: column for column in shared})
            found.set("using", [_quoted(column.stored) for column in shared])
        elif on is not None:
            found.set("on", expressions.truth(on, "JOIN/ON"))
        elif side:
            found.set("on", exp.true())
        else:
            found.set("kind", "CROSS")
        return found

    def _left_names(self) -> list[str]:
        return [column.name for relation in self._scope.relations for column in relation.fields]

    def _merged(self, name: str, right: Relation) -> Field:
        """The column of USING that stands for both."""
        left = self._scope.merged.get(name)
        if left is None:
            found = [c for one in self._scope.relations for c in one.fields if c.name == name]
            if len(found) > 1:
                raise refused(f'common column name "{name}" appears more than once in left table')
            left = found[0] if found else None
        mine = [column for column in right.fields if column.name == name]
        if left is None or not mine:
            side = "left" if left is None else "right"
            raise refused(
                f'column "{name}" specified in USING clause does not exist in {side} table'
            )
        kind = common(left.kind, mine[0].kind)
        if kind is None:
            one, other = (NATIVE.get(c.kind, c.kind) for c in (left, mine[0]))
            raise refused(f"JOIN/USING types {one} and {other} cannot be matched")
        is_alike = left.kind == mine[0].kind or kind in ("int4", "int8", "numeric")
        if left.stored != mine[0].stored or kind not in GOOGLE or kind == "float8" or not is_alike:
            raise refused(f'JOIN/USING of "{name}" cannot be said in GoogleSQL: write ON')
        return Field(name, kind, left.stored)


def _quoted(name: str) -> exp.Identifier:
    return exp.to_identifier(name, quoted=True)


def _alias(name: str) -> exp.TableAlias:
    return exp.TableAlias(this=_quoted(name))

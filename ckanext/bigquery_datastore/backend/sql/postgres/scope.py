"""What the names of a query mean: the columns of its FROM, and of the queries around. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres.kinds import Value, refused


@dataclass(frozen=True)
class Field:
    """A column of a relation: PostgreSQL's name, its kind, its name in GoogleSQL."""

    name: str
    kind: str
    stored: str


@dataclass(frozen=True)
class Relation:
    """A table or a query of a FROM, by its alias."""

    alias: str
    fields: tuple[Field, ...]


@dataclass
class Scope:
    """The names that an expression can have. ``merged`` are the columns of USING, once each."""

    around: Scope | None = None
    relations: list[Relation] = field(default_factory=list)
    merged: dict[str, Field] = field(default_factory=dict)
    ctes: dict[str, tuple[Field, ...]] = field(default_factory=dict)
    windows: dict[str, exp.Expr] = field(default_factory=dict)
    #: Names of outputs, small, which ORDER BY and GROUP BY of GoogleSQL would see first.
    hidden: set[str] = field(default_factory=set)

    def add(self, relation: Relation) -> None:
        if any(known.alias.lower() == relation.alias.lower() for known in self.relations):
            raise refused(f'table name "{relation.alias}" specified more than once')
        self.relations.append(relation)

    def cte(self, name: str) -> tuple[Field, ...] | None:
        for scope in self._outwards():
            if name in scope.ctes:
                return scope.ctes[name]
        return None

    def column(self, name: str, table: str | None) -> Value:
        """The value of a column, as PostgreSQL finds it.

        :raises Invalid: there is none, or more than one
        """
        for scope in self._outwards():
            found = scope._own(name, table)
            if found is not None:
                relation, column = found
                is_outer = scope is not self and relation is not None
                is_hidden = column.stored.lower() in self.hidden and scope is self
                is_shared = scope._holders(column.stored) > 1
                if relation is not None and (table or is_outer or is_hidden or is_shared):
                    return Value(reference(column, relation.alias), column.kind)
                return Value(reference(column), column.kind)
            if table and any(relation.alias == table for relation in scope.relations):
                raise refused(f"column {table}.{name} does not exist")
        if table:
            raise refused(f'missing FROM-clause entry for table "{table}"')
        raise refused(f'column "{name}" does not exist')

    def _own(self, name: str, table: str | None) -> tuple[Relation | None, Field] | None:
        if table is None and name in self.merged:
            if self.merged[name].stored.lower() in self.hidden:
                raise refused(f'Give the output that is called "{name}" another name')
            return None, self.merged[name]
        found = [
            (relation, column)
            for relation in self.relations
            if table in (None, relation.alias)
            for column in relation.fields
            if column.name == name
        ]
        if len(found) > 1:
            raise refused(f'column reference "{name}" is ambiguous')
        return found[0] if found else None

    def _holders(self, stored: str) -> int:
        """How many columns have a name in BigQuery, where case makes no difference."""
        names = [column.stored for relation in self.relations for column in relation.fields]
        return sum(name.lower() == stored.lower() for name in names)

    def _outwards(self) -> Iterator[Scope]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.around

    def stars(self, table: str | None) -> list[tuple[Field, exp.Expr]]:
        """The columns of ``*`` or ``table.*``, in PostgreSQL's order."""
        found: list[tuple[Field, exp.Expr]] = []
        if table is None:
            found += [(column, reference(column)) for column in self.merged.values()]
        known = [relation for relation in self.relations if table in (None, relation.alias)]
        if not known:
            raise refused(f'missing FROM-clause entry for table "{table}"')
        for relation in known:
            found += [
                (column, reference(column, relation.alias))
                for column in relation.fields
                if table is not None or column.name not in self.merged
            ]
        return found


def reference(column: Field, alias: str | None = None) -> exp.Column:
    table = exp.to_identifier(alias, quoted=True) if alias else None
    return exp.Column(this=exp.to_identifier(column.stored, quoted=True), table=table)

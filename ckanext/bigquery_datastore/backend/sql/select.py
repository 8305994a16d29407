"""A checked query from outside, in the form that an export takes: see ``search.Select``. Pure.

An export casts each column, which would change what the query's own ORDER BY sees. So the query
becomes the inner one, what it is sorted by is carried out of it, and the outer one sorts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sqlglot import exp

from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.backend.search.select import (
    Outputs,
    Render,
    T,
    as_is,
    named,
)
from ckanext.bigquery_datastore.backend.sql.check import Checked
from ckanext.bigquery_datastore.backend.table.model import Column, quote_name


@dataclass(frozen=True)
class SqlSelect:
    """The query with casts around its columns; ``order_by`` are the outer terms."""

    inner: str
    columns: tuple[Column, ...]
    order_by: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()

    @property
    def aliases(self) -> tuple[str, ...]:
        return tuple(column.stored or column.name for column in self.columns)

    def sql(
        self,
        render: Render = as_is,
        shared: Mapping[str, str] = MappingProxyType({}),
        outputs: Outputs | None = None,
    ) -> str:
        """The statement. The parameters are those of ``search.Select.sql``."""
        values = [f"{T}.{quote_name(alias)}" for alias in self.aliases]
        rendered = zip(self.columns, values, self.aliases, strict=True)
        listed = named(
            outputs(values)
            if outputs
            else {alias: render(column, value) for column, value, alias in rendered}
        )
        order = f" ORDER BY {', '.join(self.order_by)}" if self.order_by else ""
        source = f"FROM ({self.inner}) AS {T}"
        if shared:
            source = f"FROM (SELECT {T}.*, {named(shared)} {source}) AS {T}"
        return f"SELECT {listed} {source}{order}"


def select_of(checked: Checked, columns: tuple[Column, ...]) -> SqlSelect:
    """The Select of a checked query, whose columns a dry run has told."""
    query = checked.expression.copy()
    order = query.args.get("order")
    terms = (
        [_carried_out(query, ordered, columns) for ordered in order.expressions] if order else []
    )
    inner = Checked(query, checked.tables).sql()
    return SqlSelect(inner, columns, tuple(terms))


def _carried_out(query: exp.Query, ordered: exp.Ordered, columns: tuple[Column, ...]) -> str:
    """One term of the outer order; adds what it needs to the query's own columns."""
    names = [column.stored or column.name for column in columns]
    key = ordered.this
    is_nan = isinstance(key, exp.IsNan) and isinstance(key.this, exp.Column)
    if is_nan and not key.this.table and key.this.name in names:
        return f"IS_NAN({T}.{quote_name(key.this.name)}) {_direction(ordered)}"
    if isinstance(key, exp.Literal) and key.is_int and 0 < int(key.name) <= len(names):
        name = names[int(key.name) - 1]
    elif isinstance(key, exp.Column) and not key.table and key.name in names:
        name = key.name
    elif isinstance(query, exp.Select) and not query.args.get("distinct"):
        name = f"__order_{len(query.expressions)}"
        # Not by ``alias_``, which takes a query for a table.
        alias = exp.to_identifier(name, quoted=True)
        query.select(exp.Alias(this=key.copy(), alias=alias), copy=False)
    else:
        # Of DISTINCT and of set operations, BigQuery lets only outputs be sorted by.
        name = next((item.alias for item in query.selects if item.unalias() == key), names[0])
    return f"{T}.{quote_name(name)} {_direction(ordered)}"


def _direction(ordered: exp.Ordered) -> str:
    direction = "DESC" if ordered.args.get("desc") else "ASC"
    return f"{direction} NULLS {'FIRST' if ordered.args.get('nulls_first') else 'LAST'}"

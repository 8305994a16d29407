"""A search in parts, and as the statement that finds its rows. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.backend.table import conversion
from ckanext.bigquery_datastore.backend.table.model import (
    Column,
    Table,
    quote_name,
    stored_names,
)

Render = Callable[[Column, str], str]

#: Other outputs than the columns, by their names, from the SQL of each column's value.
Outputs = Callable[[Sequence[str]], Mapping[str, str]]

#: What tells values apart that GoogleSQL does not group by.
#: https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#groupable_data_types
_DISTINCT: Mapping[str, Callable[[str], str]] = {
    **dict.fromkeys(("JSON", "ARRAY", "STRUCT"), conversion.json_text),
    "GEOGRAPHY": lambda sql: f"ST_ASTEXT({sql})",
}

#: The table's name inside every statement: names are always qualified by it, because
#: GoogleSQL would take a bare name in ORDER BY for an alias of the select list first.
T = "t"


@dataclass(frozen=True)
class Order:
    """One term of the order: an expression on the table, and how it is sorted."""

    column: str
    sql: str
    descending: bool = False
    nulls_first: bool = False

    def render(self) -> str:
        direction = "DESC" if self.descending else "ASC"
        return f"{self.sql} {direction} NULLS {'FIRST' if self.nulls_first else 'LAST'}"


def as_is(column: Column, sql: str) -> str:
    return sql


@dataclass(frozen=True)
class Select:
    """A search in parts. ``columns`` are the output, in order.

    For full text, ``texts`` are the words that conditions look at, ``ranks`` what is computed
    from them; each is SQL by the name that it gets as a column of ``t``. ``as_of``: the moment
    whose rows are looked for; now, if None.
    """

    table: Table
    columns: tuple[Column, ...]
    distinct: bool = False
    where: tuple[str, ...] = ()
    order_by: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int = 0
    parameters: tuple[Parameter, ...] = ()
    ranks: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    as_of: datetime.datetime | None = None

    @property
    def is_whole_table(self) -> bool:
        """Whether every row is found: no condition, and no two rows become one."""
        return not self.where and not self.distinct

    @property
    def aliases(self) -> tuple[str, ...]:
        """The name of each column in the result, in order: its own in BigQuery, made unique.

        A rank has CKAN's name there: files show it.
        """
        names = [c.name if c.stored in self.ranks else c.stored or c.name for c in self.columns]
        return tuple(stored_names(names))

    def sql(
        self,
        render: Render = as_is,
        shared: Mapping[str, str] = MappingProxyType({}),
        outputs: Outputs | None = None,
    ) -> str:
        """The statement. ``render`` gives the SQL of a column's output from that of its value;
        rows are sorted by the value. ``shared`` is computed once a row, for ``render`` to use:
        SQL by the name that it gets as a column of ``t``. ``outputs`` takes the columns' place."""
        # After SELECT DISTINCT, GoogleSQL sorts by what was selected, not by the table.
        source = f"FROM ({self._distinct()}) AS {T}" if self.distinct else self._from()
        if shared:
            source = f"FROM (SELECT {T}.*, {named(shared)} {source}) AS {T}"
        others = outputs(self._values()) if outputs else {}
        listed, names = named(others) or self._list(render), tuple(others) or self.aliases
        if T in map(str.lower, names) and self.order_by:
            return self._sorted_outside(listed, names, source)
        return f"SELECT {listed} {source}{self._order(self.order_by)}{self._page()}"

    def _sorted_outside(self, listed: str, names: Sequence[str], source: str) -> str:
        """ORDER BY would take an output that is called as the table is for the table: the order is
        computed where the table is known, and looked at where it is not."""
        keys = stored_names([f"order {n}" for n in range(len(self.order_by))], names)
        computed = {key: term.sql for key, term in zip(keys, self.order_by, strict=True)}
        order = [
            replace(term, sql=quote_name(key))
            for key, term in zip(keys, self.order_by, strict=True)
        ]
        inner = f"SELECT {listed}, {named(computed)} {source}"
        outer = ", ".join(map(quote_name, names))
        return f"SELECT {outer} FROM ({inner}){self._order(order)}{self._page()}"

    def count_sql(self) -> str:
        """How many rows there are without limit and offset: one row, one column ``total``."""
        if self.distinct:
            return f"SELECT COUNT(*) AS total FROM ({self._distinct()})"
        return f"SELECT COUNT(*) AS total {self._from()}"

    def _distinct(self) -> str:
        columns = [(column, f"{T}.{column.sql}") for column in self.columns]
        keys = [_DISTINCT[c.bq_type](sql) if c.bq_type in _DISTINCT else sql for c, sql in columns]
        if all(key == sql for key, (_, sql) in zip(keys, columns, strict=True)):
            return f"SELECT DISTINCT {', '.join(keys)} {self._from()}"
        one_each = ", ".join(
            f"ANY_VALUE({sql}) AS {c.sql}" if c.bq_type in _DISTINCT else sql for c, sql in columns
        )
        return f"SELECT {one_each} {self._from()} GROUP BY {', '.join(keys)}"

    def _list(self, render: Render) -> str:
        return ", ".join(
            f"{render(column, value)} AS {quote_name(alias)}"
            for column, value, alias in zip(self.columns, self._values(), self.aliases, strict=True)
        )

    def _values(self) -> list[str]:
        return [f"{T}.{column.sql}" for column in self.columns]

    def _from(self) -> str:
        source = self.table.sql_name
        for computed in (self.texts, self.ranks):
            if computed:
                source = f"(SELECT {T}.*, {named(computed)} FROM {source} AS {T})"
        where = f" WHERE {' AND '.join(f'({sql})' for sql in self.where)}" if self.where else ""
        # Without a zone it would be Pacific time:
        # https://cloud.google.com/bigquery/docs/reference/standard-sql/query-syntax#for_system_time_as_of
        moment = (
            f" FOR SYSTEM_TIME AS OF TIMESTAMP '{self.as_of.isoformat()}'" if self.as_of else ""
        )
        return f"FROM {source} AS {T}{moment}{where}"

    @staticmethod
    def _order(terms: Sequence[Order]) -> str:
        return f" ORDER BY {', '.join(term.render() for term in terms)}" if terms else ""

    def _page(self) -> str:
        if self.limit is None and not self.offset:
            return ""
        # GoogleSQL has no OFFSET without LIMIT.
        limit = 2**63 - 1 if self.limit is None else self.limit
        return f" LIMIT {limit}" + (f" OFFSET {self.offset}" if self.offset else "")


def named(computed: Mapping[str, str]) -> str:
    """Computed columns, as a list of SELECT has them."""
    return ", ".join(f"{sql} AS {quote_name(name)}" for name, sql in computed.items())

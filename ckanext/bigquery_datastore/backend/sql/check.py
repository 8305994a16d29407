"""SQL from outside: parsed, checked against allow-lists, and written anew.

What BigQuery runs is never the text that came, but one written from the tree that was checked: no
comment, hint or trick of quoting survives. Every kind of node and every function has to be on
a list (``rules``); tables are replaced by the full names of resources that the caller may read.

PostgreSQL's spelling is the one that clients of the DataStore write, so it is what a text
means; only a text with a backtick in it is read as GoogleSQL.

    parse     the text as a tree
    rules     what the tree may hold
    postgres  what it means, in GoogleSQL, with the tables' full names
    rewrite   the tables' full names, where it is GoogleSQL already
    write     the text that is run, read again as GoogleSQL: the same tree, by the same rules
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql import rewrite, rules
from ckanext.bigquery_datastore.backend.sql.parse import parse
from ckanext.bigquery_datastore.backend.sql.postgres import aggregates, functions
from ckanext.bigquery_datastore.backend.sql.postgres.queries import Queries
from ckanext.bigquery_datastore.backend.sql.postgres.scope import Field
from ckanext.bigquery_datastore.backend.sql.postgres.template import bounded
from ckanext.bigquery_datastore.backend.sql.rules import NotAllowed
from ckanext.bigquery_datastore.backend.sql.write import rewritten, write
from ckanext.bigquery_datastore.backend.table.model import Column, Table
from ckanext.bigquery_datastore.errors import Invalid

__all__ = ["MOST_TABLES", "Checked", "NotAllowed", "parse_select"]

#: BigQuery names no more than 50 tables of a query
#: (https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#JobStatistics2): of more, nobody
#: could tell whether they are those that were checked.
MOST_TABLES = 49

_INT64_MAX = 2**63 - 1

#: PostgreSQL's functions that are known here, aggregates and those of windows included.
#: ALL of a list looks like one.
_NAMES = functions.NAMES | aggregates.NAMES | aggregates.WINDOWS | {"all"}


@dataclass(frozen=True)
class Checked:
    """A query that may be run: its tree, the tables that it reads, as they were resolved.

    ``outputs`` are its columns, of a query that was read as PostgreSQL.
    """

    expression: exp.Query
    tables: tuple[Table, ...]
    outputs: tuple[Field, ...] | None = None

    def sql(self, most_rows: int | None = None) -> str:
        """GoogleSQL. ``most_rows`` lowers the query's own limit, or sets one."""
        query = self.expression.copy()
        if most_rows is not None:
            own = _own_limit(query)
            if own is None or own > most_rows:
                query = query.limit(most_rows, copy=False)
        return write(query)

    def output(self, name: str) -> Field | None:
        """The output that has a name in BigQuery."""
        return next((field for field in self.outputs or () if field.stored == name), None)

    def column(self, name: str, bq_type: str) -> Column | None:
        """The column that an output of this name and type most likely is."""
        for table in self.tables:
            for column in table.columns:
                if name in (column.stored, column.name) and column.bq_type == bq_type:
                    return column
        return None


def parse_select(
    text: str, resolve: Callable[[str], Table | None], allow: Callable[[list[str]], object]
) -> Checked:
    """The query of a text, checked.

    ``resolve`` gives the table behind a name or an alias, ``allow`` raises when one of the
    resources (by id) may not be read; it is called once, before anything else is looked at.

    :raises Invalid: it is not exactly one SELECT, or not written as PostgreSQL or GoogleSQL
    :raises NotAllowed: it does more than read tables of the DataStore
    """
    parsed = parse(text)
    query = parsed.query
    if parsed.is_postgresql:
        rules.check_nodes(query, rules.POSTGRESQL_NODES)
        rules.check_functions(query, rules.POSTGRESQL_FUNCTIONS, _NAMES)
    else:
        rules.check_nodes(query)
        rules.check_functions(query)
    names = rules.table_names(query)
    if len(names) > MOST_TABLES:
        raise Invalid({"query": [f"The query reads more than {MOST_TABLES} tables"]})
    found = {name: resolve(name) for name in names}
    allow([table.id if table else name for name, table in found.items()])
    for name, table in found.items():
        if table is None or name.startswith("_"):
            raise Invalid({"query": [f'relation "{name}" does not exist']})
    tables = {name: table for name, table in found.items() if table is not None}
    outputs = None
    if parsed.is_postgresql:
        with bounded():
            query, outputs = Queries(tables).query(query).finished()
    else:
        rewrite.qualify(query, tables)
        rewrite.name_outputs(query)
    read = tuple({table.id: table for table in tables.values()}.values())
    checked = Checked(rewritten(query), read, outputs)
    _check_written(checked.expression, checked.tables)
    checked.sql()
    return checked


def _check_written(query: exp.Query, tables: Collection[Table]) -> None:
    """The rules once more, for the tree of GoogleSQL that is run."""
    rules.check_nodes(query)
    rules.check_functions(query, rules.WRITTEN_FUNCTIONS, rules.WRITTEN_NAMED_FUNCTIONS)
    _check_limits(query)
    known = {(table.project, table.dataset, table.id) for table in tables}
    for table in query.find_all(exp.Table):
        if rules.is_own(table) and not table.catalog:
            continue
        if (table.catalog, table.db, table.name) not in known:
            raise NotAllowed(f"Not authorized to read {table.name}")


def _check_limits(query: exp.Query) -> None:
    for node in query.find_all(exp.Limit, exp.Offset):
        number = node.expression
        if not isinstance(number, exp.Literal) or not number.is_int or len(number.name) > 19:
            raise Invalid({"query": [f"{type(node).__name__.upper()} must be a number"]})
        if int(number.name) > _INT64_MAX:
            raise Invalid({"query": [f"{type(node).__name__.upper()} must be a number"]})


def _own_limit(query: exp.Query) -> int | None:
    limit = query.args.get("limit")
    return None if limit is None else int(limit.expression.name)

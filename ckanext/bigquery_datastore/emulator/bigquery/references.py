"""What a statement names: its tables, and the views among them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import sqlglot
from bqemulator.catalog.models import TableMeta
from sqlglot import exp
from sqlglot.errors import SqlglotError

from .catalog import Catalog
from .engine import TableName


def tables_of(project: str, sql: str) -> list[TableName]:
    """The tables that a statement names with their dataset, each once."""
    return list(_tables_of(project, sql))


# A statement is looked at several times: for who may, for what it costs, for what it reads.
@lru_cache(maxsize=64)
def _tables_of(project: str, sql: str) -> tuple[TableName, ...]:
    try:
        trees = sqlglot.parse(sql, read="bigquery")
    except SqlglotError:
        return ()
    found: dict[TableName, None] = {}
    for tree in trees:
        for table in tree.find_all(exp.Table) if tree is not None else ():
            if table.db and table.name:
                found[TableName(table.catalog or project, table.db, table.name)] = None
    return tuple(found)


def target_of(project: str, sql: str) -> TableName | None:
    """The table that a statement changes or makes; None where it only reads, or is a script."""
    try:
        tree = sqlglot.parse_one(sql, read="bigquery")
    except SqlglotError:
        return None
    if not isinstance(tree, (exp.Create, exp.Alter, exp.DML, exp.TruncateTable)):
        return None
    found = next(tree.find_all(exp.Table, bfs=True), None)
    return found and TableName(found.catalog or project, found.db, found.name)


def views_of(catalog: Catalog, project: str, sql: str) -> Iterator[str]:
    """The queries of the views that a statement reads, those that they read included."""
    for name in tables_of(project, sql):
        meta = _found(catalog, name)
        if meta is not None and meta.view_query:
            yield meta.view_query
            yield from views_of(catalog, project, meta.view_query)


def read_by(catalog: Catalog, project: str, sql: str) -> list[TableName]:
    """The tables that a statement reads, those that its views stand for included."""
    queries = [sql, *views_of(catalog, project, sql)]
    return list(dict.fromkeys(name for query in queries for name in tables_of(project, query)))


def _found(catalog: Catalog, name: TableName) -> TableMeta | None:
    return catalog.get_table(name.project, name.dataset, name.table)

"""A checked query of GoogleSQL with the tables' full names, and names for its outputs. Pure."""

from __future__ import annotations

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.rules import is_own
from ckanext.bigquery_datastore.backend.table.model import Table

#: What PostgreSQL calls the column of a function that has no alias, where sqlglot's name differs.
OUTPUT_NAMES = {
    "CurrentTimestamp": "now",
    "DateTrunc": "date_trunc",
    "DatetimeTrunc": "date_trunc",
    "GroupConcat": "string_agg",
    "LogicalAnd": "bool_and",
    "LogicalOr": "bool_or",
    "StrPosition": "strpos",
    "TimestampTrunc": "date_trunc",
}


def qualify(query: exp.Expr, tables: dict[str, Table]) -> None:
    """Put full names in the place of tables, and BigQuery's names in that of columns."""
    stored = {
        column.name: column.stored
        for table in tables.values()
        for column in table.columns
        if column.stored != column.name
    }
    for node in list(query.find_all(exp.Table)):
        if is_own(node):
            continue
        table = tables[node.name]
        if not node.alias:
            node.set("alias", exp.TableAlias(this=exp.to_identifier(node.name, quoted=True)))
        node.set("this", exp.to_identifier(table.id, quoted=True))
        node.set("db", exp.to_identifier(table.dataset, quoted=True))
        node.set("catalog", exp.to_identifier(table.project, quoted=True))
    for column in query.find_all(exp.Column):
        if column.table == "public":
            column.set("table", None)
        if column.name in stored:
            column.set("this", exp.to_identifier(stored[column.name], quoted=True))
    for identifier in query.find_all(exp.Identifier):
        # Words that PostgreSQL takes for names can be keywords of GoogleSQL.
        identifier.set("quoted", True)


def name_outputs(query: exp.Query) -> None:
    """Name the columns of the result that have no name, as PostgreSQL would."""
    select = query
    while isinstance(select, (exp.SetOperation, exp.Subquery)):
        select = select.this
    if not isinstance(select, exp.Select):
        return
    named_items = (exp.Alias, exp.Column)
    used = {i.alias_or_name for i in select.expressions if isinstance(i, named_items)}
    named = []
    for item in select.expressions:
        if isinstance(item, (exp.Alias, exp.Column, exp.Star)):
            named.append(item)
            continue
        base = _output_name(item)
        name, number = base, 1
        while name in used:
            number += 1
            name = f"{base}_{number}"
        used.add(name)
        named.append(exp.alias_(item, name, quoted=True))
    select.set("expressions", named)


def _output_name(item: exp.Expr) -> str:
    if isinstance(item, exp.Window):
        return _output_name(item.this)
    if isinstance(item, (exp.Cast, exp.Paren)):
        return item.this.name or _output_name(item.this)
    if isinstance(item, exp.Anonymous):
        return item.name.lower()
    if isinstance(item, exp.Case):
        return "case"
    if not isinstance(item, exp.Func):
        return "column"
    return OUTPUT_NAMES.get(type(item).__name__) or item.sql_name().lower()

"""A checked query in BigQuery's terms: full names, PostgreSQL's division, names of outputs."""

from __future__ import annotations

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.rules import is_own
from ckanext.bigquery_datastore.backend.table.model import ID, Table

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


def divide_integers(query: exp.Expr, tables: dict[str, Table]) -> None:
    """Let PostgreSQL's ``7 / 2`` be 3: BigQuery's is 3.5, and its DIV cuts the fraction off.

    Only where both sides are surely whole numbers. A column is one where every table has it so,
    and the query gives nothing else its name.
    """
    columns: dict[str, set[str]] = {}
    for column in (column for table in tables.values() for column in table.columns):
        kind = "int4" if column.name == ID else column.type.name  # core's _id is an int
        columns.setdefault(column.name, set()).add(kind)
    for alias in query.find_all(exp.Alias):
        columns.pop(alias.alias, None)
    for node in list(query.find_all(exp.Div)):
        if node.args.get("typed") and all(
            _is_whole(part, columns) for part in (node.this, node.expression)
        ):
            node.replace(exp.IntDiv(this=node.this, expression=node.expression))


_WHOLE = {"int2", "int4", "int8"}


def _is_whole(node: exp.Expr, columns: dict[str, set[str]]) -> bool:
    if isinstance(node, exp.Column):
        return columns.get(node.name, {""}) <= _WHOLE
    if isinstance(node, exp.Literal):
        return node.is_int
    if isinstance(node, exp.Cast):
        return node.to.this in exp.DataType.INTEGER_TYPES
    if isinstance(node, exp.Sum):
        # The sum of int8 is a numeric.
        kinds = [columns.get(c.name, {""}) for c in node.find_all(exp.Column)]
        return _is_whole(node.this, columns) and not any("int8" in found for found in kinds)
    if isinstance(node, (exp.Paren, exp.Neg, exp.Min, exp.Max, exp.Abs)):
        return _is_whole(node.this, columns)
    if isinstance(node, (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod)):
        return _is_whole(node.this, columns) and _is_whole(node.expression, columns)
    return isinstance(node, (exp.Count, exp.Length, exp.RowNumber))


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

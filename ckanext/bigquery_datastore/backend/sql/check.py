"""SQL from outside: parsed, checked against allow-lists, and written anew.

What BigQuery runs is never the text that came, but the text of the tree that was checked: no
comment, hint or trick of quoting survives. Every kind of node and every function has to be on
a list here; tables are replaced by the full names of resources that the caller may read.

PostgreSQL's spelling is the one that clients of the DataStore write, so it is what a text
means; only a text with a backtick in it is read as GoogleSQL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType

from ckanext.bigquery_datastore.backend.table.model import ID, Column, Table
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError, Invalid

LONGEST = 100_000
DEEPEST = 200


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: What a query may be made of, functions aside. Names are sqlglot's.
NODES = _words(
    "Select From Join Where Group Order Ordered Having Limit Offset With CTE Subquery "
    "Union Except Intersect Alias TableAlias Table Column Identifier Star Literal Null "
    "Boolean Paren Tuple And Or Not Xor EQ NEQ NullSafeEQ NullSafeNEQ GT GTE LT LTE Is In "
    "Between Like ILike SimilarTo RegexpLike RegexpILike Escape Exists Any All Add Sub Mul "
    "Div IntDiv Mod Neg DPipe Case If Cast TryCast DataType Distinct Window WindowSpec "
    "Interval Var Dot Qualify AtTimeZone Filter WithinGroup IgnoreNulls RespectNulls "
    "IntervalSpan Cube Rollup GroupingSets"
)

#: Functions that only compute. Names are sqlglot's classes.
FUNCTIONS = _words(
    "Count CountIf Sum Avg Min Max Stddev StddevPop StddevSamp Variance VariancePop Corr "
    "CovarPop CovarSamp ApproxDistinct AnyValue LogicalAnd LogicalOr GroupConcat "
    "Coalesce Nullif Greatest Least Upper Lower Initcap Trim Length Substring Concat "
    "ConcatWs Replace Left Right Pad StrPosition Reverse Repeat StartsWith EndsWith "
    "RegexpReplace RegexpExtract Translate Ascii Chr Abs Ceil Floor Round Trunc Sqrt Cbrt "
    "Pow Exp Ln Log Sign Degrees Radians Pi Sin Cos Tan Asin Acos Atan Atan2 SafeDivide "
    "Extract CurrentDate CurrentTimestamp CurrentDatetime TimestampTrunc DateTrunc "
    "DatetimeTrunc RowNumber Rank DenseRank PercentRank CumeDist Ntile Lag Lead FirstValue "
    "LastValue NthValue MD5 SHA SHA2 ToBase64"
)

#: Functions by name that sqlglot has no class for, alike in PostgreSQL and BigQuery.
NAMED_FUNCTIONS = frozenset({"octet_length", "bit_length"})

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

# Parts of a node that would bring in something else than what its children say.
_REFUSED_PARTS = {
    "Select": ("into", "kind", "hint", "locks", "sample", "pivots", "laterals", "match", "connect"),
    "Table": ("version", "when", "pivots", "hints", "ordinality", "changes", "rows_from", "only"),
    "Subquery": ("pivots", "sample"),
    "With": ("recursive", "search"),
}


class NotAllowed(BigQueryDatastoreError):
    """Something that nobody may do with SQL here; the message says what."""

    status = 403


@dataclass(frozen=True)
class Checked:
    """A query that may be run: its tree, the tables that it reads, as they were resolved."""

    expression: exp.Query
    tables: tuple[Table, ...]

    def sql(self, most_rows: int | None = None) -> str:
        """GoogleSQL. ``most_rows`` lowers the query's own limit, or sets one."""
        query = self.expression.copy()
        if most_rows is not None:
            own = _own_limit(query)
            if own is None or own > most_rows:
                query = query.limit(most_rows, copy=False)
        return query.sql(dialect="bigquery", comments=False, normalize_functions="upper")

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
    query = _parse(text)
    _check_nodes(query)
    _check_functions(query)
    names = _table_names(query)
    found = {name: resolve(name) for name in names}
    allow([table.id if table else name for name, table in found.items()])
    for name, table in found.items():
        if table is None or name.startswith("_"):
            raise Invalid({"query": [f'relation "{name}" does not exist']})
    tables = {name: table for name, table in found.items() if table is not None}
    _divide_integers(query, tables)
    _qualify(query, tables)
    _name_outputs(query)
    return Checked(query, tuple({table.id: table for table in tables.values()}.values()))


# --- parsing -----------------------------------------------------------------------------------


def _parse(text: str) -> exp.Query:
    if not isinstance(text, str) or not text.strip():
        raise Invalid({"sql": ["Missing value"]})
    if len(text) > LONGEST or "\0" in text:
        raise Invalid({"query": ["The query is too long"]})
    dialect = "bigquery" if "`" in text else "postgres"
    try:
        tokens = sqlglot.tokenize(text, read=dialect)
        statements = [statement for statement in sqlglot.parse(text, read=dialect) if statement]
    except SqlglotError as err:
        raise Invalid({"query": [_syntax_error(err)]}) from err
    except RecursionError as err:
        raise Invalid({"query": ["The query is nested too deeply"]}) from err
    if len(statements) != 1:
        raise Invalid({"query": ["Query is not a single statement"]})
    query = statements[0]
    if not isinstance(query, exp.Query) or isinstance(query, exp.Table):
        raise Invalid({"query": ["Query is not a SELECT statement"]})
    # A quoted name keeps its case in PostgreSQL: "CoUnT" is not count.
    for token, following in pairwise(tokens):
        quoted = token.token_type is TokenType.IDENTIFIER and token.text != token.text.lower()
        if quoted and following.token_type is TokenType.L_PAREN:
            raise NotAllowed(f"Not authorized to call function {token.text}")
    if dialect == "postgres":
        _fold_case(query)
    return query


def _syntax_error(err: SqlglotError) -> str:
    details = getattr(err, "errors", None) or [{}]
    near = details[0].get("highlight")
    return f'syntax error at or near "{near}"' if near else "syntax error"


def _fold_case(query: exp.Expr) -> None:
    for identifier in query.find_all(exp.Identifier):
        if not identifier.args.get("quoted"):
            identifier.set("this", identifier.this.lower())


# --- checks ------------------------------------------------------------------------------------


def _check_nodes(query: exp.Expr) -> None:
    for node in query.walk():
        name = type(node).__name__
        if isinstance(node, exp.Func) and name not in NODES:
            continue  # see _check_functions
        if name not in NODES:
            raise Invalid({"query": [f"Invalid query AST element: {name}"]})
        for part in _REFUSED_PARTS.get(name, ()):
            if node.args.get(part):
                raise Invalid({"query": [f"Invalid query AST element: {name} with {part}"]})
        if (
            name == "TableAlias"
            and node.args.get("columns")
            and not isinstance(node.parent, exp.CTE)
        ):
            raise Invalid({"query": ["Invalid query AST element: TableAlias with columns"]})
        if node.depth > DEEPEST:
            raise Invalid({"query": ["The query is nested too deeply"]})
        if isinstance(node, exp.Star) and not isinstance(
            node.parent, (exp.Select, exp.Count, exp.Column)
        ):
            raise Invalid({"query": ["Invalid query AST element: Star"]})


def _check_functions(query: exp.Expr) -> None:
    for node in query.find_all(exp.Func):
        name = type(node).__name__
        if name in NODES or name in FUNCTIONS:
            if isinstance(node.parent, exp.Dot):
                raise NotAllowed(f"Not authorized to call function {node.parent.sql()}")
            continue
        called = node.name if isinstance(node, exp.Anonymous) else node.sql_name()
        if isinstance(node, exp.Anonymous) and called.lower() in NAMED_FUNCTIONS:
            continue
        raise NotAllowed(f"Not authorized to call function {called}")


def _table_names(query: exp.Expr) -> list[str]:
    """The names of tables in a query, in order, those of its own WITH left out."""
    names: dict[str, None] = {}
    for table in query.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            raise NotAllowed("Not authorized to call a function as a table")
        if table.args.get("catalog"):
            raise Invalid({"query": [f"Catalog cannot be provided: {table.catalog}"]})
        if table.db and table.db != "public":
            raise NotAllowed("Not authorized to access tables in other schemas")
        if table.name.lower().startswith("pg_") or table.name.lower() == "information_schema":
            raise NotAllowed("Not authorized to access system tables")
        if _is_own(table):
            continue
        if any(char in table.name for char in ".*`$@\\/"):
            raise NotAllowed("Not authorized to access tables in other schemas")
        names[table.name] = None
    return list(names)


def _is_own(table: exp.Table) -> bool:
    """Whether a name is that of a WITH around it, which it then means."""
    if table.db:
        return False
    node: exp.Expr | None = table
    while node is not None:
        with_ = node.args.get("with_") or node.args.get("with")
        if isinstance(with_, exp.With) and any(
            cte.alias == table.name and not _inside_or_before(cte, table)
            for cte in with_.expressions
        ):
            return True
        node = node.parent
    return False


def _inside_or_before(cte: exp.Expr, table: exp.Expr) -> bool:
    """Whether the table stands in this part of the WITH, or in one that comes before it."""
    place: exp.Expr | None = table
    while place is not None and not isinstance(place, exp.CTE):
        place = place.parent
    while place is not None:
        if place.parent is cte.parent:
            siblings = list(cte.parent.expressions) if cte.parent else []
            return siblings.index(place) <= siblings.index(cte)
        place = place.parent
    return False


# --- rewriting ---------------------------------------------------------------------------------


def _qualify(query: exp.Expr, tables: dict[str, Table]) -> None:
    """Put full names in the place of tables, and BigQuery's names in that of columns."""
    stored = {
        column.name: column.stored
        for table in tables.values()
        for column in table.columns
        if column.stored != column.name
    }
    for node in list(query.find_all(exp.Table)):
        if _is_own(node):
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


def _divide_integers(query: exp.Expr, tables: dict[str, Table]) -> None:
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


def _name_outputs(query: exp.Query) -> None:
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


def _own_limit(query: exp.Query) -> int | None:
    limit = query.args.get("limit")
    if limit is None:
        return None
    if not isinstance(limit, exp.Limit) or not isinstance(limit.expression, exp.Literal):
        raise Invalid({"query": ["LIMIT must be a number"]})
    return int(limit.expression.name)

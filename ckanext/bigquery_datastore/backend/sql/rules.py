"""What a query from outside may be made of: the allow-lists, and the tables that it names. Pure."""

from __future__ import annotations

from collections.abc import Collection

from sqlglot import exp

from ckanext.bigquery_datastore.errors import BigQueryDatastoreError, Invalid

DEEPEST = 200


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: What a query may be made of, functions aside. Names are sqlglot's.
NODES = words(
    "Select From Join Where Group Order Ordered Having Limit Offset With CTE Subquery "
    "Union Except Intersect Alias TableAlias Table Column Identifier Star Literal Null "
    "Boolean Paren Tuple And Or Not Xor EQ NEQ NullSafeEQ NullSafeNEQ GT GTE LT LTE Is In "
    "Between Like ILike SimilarTo RegexpLike RegexpILike Escape Exists Any All Add Sub Mul "
    "Div IntDiv Mod Neg DPipe Case If Cast TryCast DataType Distinct Window WindowSpec "
    "Interval Var Qualify AtTimeZone Filter WithinGroup IgnoreNulls RespectNulls "
    "IntervalSpan Cube Rollup GroupingSets"
)

#: The same for what is read as PostgreSQL, where lists and lengths have a place.
POSTGRESQL_NODES = NODES | words("Array DataTypeParam")

#: Functions that only compute. Names are sqlglot's classes.
FUNCTIONS = words(
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

#: Those of PostgreSQL that have a syntax of their own; the others go by their names.
POSTGRESQL_FUNCTIONS = words(
    "Substring StrPosition Trim Extract CurrentDate CurrentTimestamp Localtimestamp Pow"
)

#: The same in GoogleSQL, with what PostgreSQL's become there.
WRITTEN_FUNCTIONS = FUNCTIONS | words(
    "Datetime Timestamp ByteLength DateAdd DateSub DateDiff DatetimeAdd DatetimeDiff "
    "TimestampDiff TimeDiff UnixMicros TimeToStr Format Unicode IsNan IsInf ArrayToString Array "
    "TsOrDsToDatetime TsOrDsToTimestamp TsOrDsToTime Hex LowerHex TimestampFromParts"
)

#: Functions by name that sqlglot has no class for, alike in PostgreSQL and BigQuery.
NAMED_FUNCTIONS = frozenset({"octet_length", "bit_length"})

#: And those that only what we write calls: it tells 0 from -0.
WRITTEN_NAMED_FUNCTIONS = NAMED_FUNCTIONS | {"ieee_divide"}

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
    is_for_visitors = True


def check_nodes(query: exp.Expr, nodes: Collection[str] = NODES) -> None:
    for node in query.walk():
        name = type(node).__name__
        if isinstance(node, exp.Dot):
            # A function of a dataset, or a field of what was not asked for by its name.
            raise NotAllowed(f"Not authorized to call function {node.sql()[:100]}")
        if isinstance(node, exp.Func) and name not in nodes:
            continue  # see check_functions
        if name not in nodes:
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
        if (
            isinstance(node, exp.Star)
            and not isinstance(node.parent, (exp.Select, exp.Count, exp.Column))
            and not _is_counted(node)
        ):
            raise Invalid({"query": ["Invalid query AST element: Star"]})


def _is_counted(star: exp.Star) -> bool:
    """Whether it is that of ``count(*)``, a function like any other in PostgreSQL's tree."""
    call = star.parent
    return isinstance(call, exp.Anonymous) and call.name.lower() == "count"


def check_functions(
    query: exp.Expr,
    functions: Collection[str] = FUNCTIONS,
    named: Collection[str] = NAMED_FUNCTIONS,
) -> None:
    for node in query.find_all(exp.Func):
        name = type(node).__name__
        if name in NODES or name in functions or isinstance(node, exp.Array):
            continue
        called = node.name if isinstance(node, exp.Anonymous) else node.sql_name()
        if isinstance(node, exp.Anonymous) and called.lower() in named:
            continue
        raise NotAllowed(f"Not authorized to call function {called}")


def table_names(query: exp.Expr) -> list[str]:
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
        if is_own(table):
            continue
        if any(char in table.name for char in ".*`$@\\/"):
            raise NotAllowed("Not authorized to access tables in other schemas")
        names[table.name] = None
    return list(names)


def is_own(table: exp.Table) -> bool:
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

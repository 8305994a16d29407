"""Functions of many rows, with DISTINCT, FILTER and their order, and those of windows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres.arithmetic import quotient
from ckanext.bigquery_datastore.backend.sql.postgres.kinds import (
    GOOGLE,
    INTEGERS,
    UNKNOWN,
    Value,
    becomes,
    cast,
    coerced,
    common,
    refused,
)
from ckanext.bigquery_datastore.backend.sql.postgres.template import say


@dataclass(frozen=True)
class Aggregate:
    takes: tuple[str, ...]
    gives: str
    says: str


_MIN_FLOAT = "COALESCE(MIN(IF(IS_NAN(@a), NULL, @a)), MIN(@a))"
_STATISTICS = {
    "stddev": "STDDEV(@a)",
    "stddev_samp": "STDDEV(@a)",
    "stddev_pop": "STDDEV_POP(@a)",
    "variance": "VARIANCE(@a)",
    "var_samp": "VARIANCE(@a)",
    "var_pop": "VAR_POP(@a)",
}
_PAIRS = {
    "corr": "CORR(@a, @b)",
    "covar_pop": "COVAR_POP(@a, @b)",
    "covar_samp": "COVAR_SAMP(@a, @b)",
}

#: By name: the kinds that it takes, as they are tried, what comes back, how it is said.
TABLE: dict[str, tuple[Aggregate, ...]] = {
    "sum": (
        Aggregate(("int2",), "int8", "SUM(@a)"),
        Aggregate(("int4",), "int8", "SUM(@a)"),
        Aggregate(("int8",), "numeric", "SUM(CAST(@a AS NUMERIC))"),
        Aggregate(("float8",), "float8", "SUM(@a)"),
        Aggregate(("numeric",), "numeric", "SUM(@a)"),
    ),
    "avg": (
        *(Aggregate((kind,), "numeric", "") for kind in (*INTEGERS, "numeric")),
        Aggregate(("float8",), "float8", "AVG(@a)"),
    ),
    **{
        name: (
            *(
                Aggregate((kind,), kind, f"{name.upper()}(@a)")
                for kind in GOOGLE
                if kind not in ("float8", "bool", "uuid")
            ),
            Aggregate(("float8",), "float8", _MIN_FLOAT if name == "min" else "MAX(@a)"),
        )
        for name in ("min", "max")
    },
    # PostgreSQL has numerics of integers here; the sixteen digits of a float8 are the same.
    **{name: (Aggregate(("float8",), "float8", how),) for name, how in _STATISTICS.items()},
    **{name: (Aggregate(("float8", "float8"), "float8", how),) for name, how in _PAIRS.items()},
    "bool_and": (Aggregate(("bool",), "bool", "LOGICAL_AND(@a)"),),
    "bool_or": (Aggregate(("bool",), "bool", "LOGICAL_OR(@a)"),),
    "every": (Aggregate(("bool",), "bool", "LOGICAL_AND(@a)"),),
}
NAMES = frozenset({*TABLE, "count", "string_agg"})

#: Functions that only stand before OVER: how many arguments they take, what comes back.
_PLAIN_WINDOWS = {
    "row_number": "int8",
    "rank": "int8",
    "dense_rank": "int8",
    "percent_rank": "float8",
    "cume_dist": "float8",
}
WINDOWS = frozenset(
    {*_PLAIN_WINDOWS, "ntile", "lag", "lead", "first_value", "last_value", "nth_value"}
)

#: Of these, those that look at all rows of a partition, whatever the frame.
UNFRAMED = WINDOWS - {"first_value", "last_value", "nth_value"}


@dataclass(frozen=True)
class Call:
    """An aggregate as it is called: ``condition`` is FILTER's, ``order`` what follows ORDER BY."""

    name: str
    values: Sequence[Value]
    is_distinct: bool = False
    is_star: bool = False
    condition: exp.Expr | None = None
    order: Sequence[exp.Ordered] = ()


def aggregated(call: Call) -> Value:
    if call.order and call.name != "string_agg":
        raise refused(f"ORDER BY inside of {call.name} cannot be said in GoogleSQL")
    if call.name == "count":
        return _count(call)
    if call.name == "string_agg":
        return _string_agg(call)
    row = _chosen(TABLE[call.name], call.values)
    if row is None:
        given = ", ".join(value.native for value in call.values)
        raise refused(f"function {call.name}({given}) does not exist")
    trees = [
        _counted(call, coerced(value, kind))
        for value, kind in zip(call.values, row.takes, strict=True)
    ]
    if not row.says:
        return Value(_average(row, trees[0]), row.gives)
    return Value(say(row.says, **dict(zip("ab", trees, strict=False))), row.gives)


def _chosen(rows: Sequence[Aggregate], values: Sequence[Value]) -> Aggregate | None:
    rows = [row for row in rows if len(row.takes) == len(values)]
    for fits in (lambda have, want: have == want, becomes):
        for row in rows:
            if all(fits(v.kind, kind) for v, kind in zip(values, row.takes, strict=True)):
                return row
    return None


def _counted(call: Call, tree: exp.Expr) -> exp.Expr:
    """An argument without the rows that FILTER leaves out, and once each with DISTINCT."""
    if call.condition is not None:
        tree = say("IF(@a, @b, NULL)", a=call.condition, b=tree)
    return exp.Distinct(expressions=[tree]) if call.is_distinct else tree


def _average(row: Aggregate, tree: exp.Expr) -> exp.Expr:
    wide = tree
    if row.takes[0] == "int8":
        inner = tree.expressions[0] if isinstance(tree, exp.Distinct) else tree
        wide = cast(inner, "numeric")
        wide = exp.Distinct(expressions=[wide]) if isinstance(tree, exp.Distinct) else wide
    total, number = say("SUM(@a)", a=wide), say("NULLIF(COUNT(@a), 0)", a=tree)
    return quotient(total, number)


def _count(call: Call) -> Value:
    if call.is_star:
        if call.condition is not None:
            return Value(say("COUNT(IF(@a, 1, NULL))", a=call.condition), "int8")
        return Value(exp.Count(this=exp.Star()), "int8")
    if len(call.values) != 1:
        raise refused("function count with these arguments does not exist")
    value = call.values[0]
    if call.is_distinct and value.kind not in GOOGLE and value.kind != UNKNOWN:
        raise refused(f"count(DISTINCT) of {value.native} cannot be said in GoogleSQL")
    tree = coerced(value, "text" if value.kind == UNKNOWN else value.kind)
    return Value(say("COUNT(@a)", a=_counted(call, tree)), "int8")


def _string_agg(call: Call) -> Value:
    if len(call.values) != 2:
        raise refused("function string_agg takes a text and a separator")
    for value in call.values:
        if not becomes(value.kind, "text"):
            raise refused(f"function string_agg({value.native}, unknown) does not exist")
    text, separator = (coerced(value, "text") for value in call.values)
    if not isinstance(separator, exp.Literal):
        raise refused("The separator of string_agg can only be a literal here")
    this: exp.Expr = _counted(call, text)
    if call.order:
        # Rows without a text count for nothing: of the text itself, no NULL is sorted.
        by: list[exp.Expr] = []
        for term in call.order:
            if term.this != text:
                if call.is_distinct:
                    raise refused(
                        "in an aggregate with DISTINCT, ORDER BY expressions must appear in "
                        "argument list"
                    )
                is_null = say("@a IS NULL", a=term.this)
                by.append(exp.Ordered(this=is_null, desc=bool(term.args.get("nulls_first"))))
            # As BigQuery sorts NULL by itself: first, and last of what descends.
            desc = bool(term.args.get("desc"))
            by.append(exp.Ordered(this=term.this.copy(), desc=desc, nulls_first=not desc))
        this = exp.Order(this=this, expressions=by)
    return Value(exp.GroupConcat(this=this, separator=separator), "text")


# --- windows ------------------------------------------------------------------------------------


def windowed(name: str, values: Sequence[Value]) -> Value:
    """A function that only windows have, still without its OVER."""
    if name in _PLAIN_WINDOWS and not values:
        return Value(say(f"{name.upper()}()"), _PLAIN_WINDOWS[name])
    if name == "ntile" and len(values) == 1 and values[0].kind in INTEGERS:
        return Value(say("NTILE(@a)", a=values[0].tree), "int4")
    if name in ("lag", "lead") and 1 <= len(values) <= 3:
        return _lagging(name, values)
    if name in ("first_value", "last_value") and len(values) == 1:
        return _of_kind(say(f"{name.upper()}(@a)", a=_known(values[0])), values[0])
    if name == "nth_value" and len(values) == 2 and values[1].kind in INTEGERS:
        tree = say("NTH_VALUE(@a, @b)", a=_known(values[0]), b=values[1].tree)
        return _of_kind(tree, values[0])
    raise refused(f"function {name} does not take these arguments")


def _known(value: Value) -> exp.Expr:
    return coerced(value, "text" if value.kind == UNKNOWN else value.kind)


def _of_kind(tree: exp.Expr, value: Value) -> Value:
    return Value(tree, "text" if value.kind == UNKNOWN else value.kind)


def _lagging(name: str, values: Sequence[Value]) -> Value:
    kind = values[0].kind if len(values) < 3 else common(values[0].kind, values[2].kind)
    if kind is None:
        raise refused(f"function {name} does not take these arguments")
    kind = "text" if kind == UNKNOWN else kind
    trees = [coerced(values[0], kind)]
    if len(values) > 1:
        if not isinstance(values[1].tree, exp.Literal) or values[1].kind != "int4":
            raise refused(f"The distance of {name} can only be a whole number here")
        trees.append(values[1].tree)
    if len(values) > 2:
        trees.append(coerced(values[2], kind))
    places = ", ".join(f"@{letter}" for letter in "abc"[: len(trees)])
    tree = say(f"{name.upper()}({places})", **dict(zip("abc", trees, strict=False)))
    return Value(tree, kind)


def over(value: Value, window: exp.Window) -> Value:
    """A value made of aggregates, each of them over a window."""

    def opened(node: exp.Expr) -> exp.Expr:
        if isinstance(node, _OPENED) and not isinstance(node.parent, exp.Window):
            found = window.copy()
            found.set("this", node.copy())
            return found
        return node

    # A lone function is the tree itself.
    return Value(value.tree.copy().transform(opened), value.kind)


_OPENED = (exp.AggFunc, exp.RowNumber, exp.Rank, exp.DenseRank, exp.PercentRank, exp.CumeDist)
_OPENED += (exp.Ntile, exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue)

"""What sqlglot has read of PostgreSQL's text, and has to be read once more. Pure."""

from __future__ import annotations

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres import comparisons
from ckanext.bigquery_datastore.backend.sql.postgres.kinds import UNKNOWN, Value, refused

#: Operators that sqlglot reads as if they bound tighter than they do in PostgreSQL
#: (https://www.postgresql.org/docs/15/sql-syntax-lexical.html#SQL-PRECEDENCE).
_TORN: dict[type[exp.Expr], tuple[type[exp.Expr], ...]] = {
    **dict.fromkeys(comparisons.SYMBOLS, (exp.Is, *comparisons.SYMBOLS)),
    exp.Mod: (exp.Mul, exp.Div, exp.Mod),
    exp.RegexpLike: (exp.DPipe,),
    exp.RegexpILike: (exp.DPipe,),
}


def check_order(node: exp.Expr) -> None:
    """Refuse what sqlglot may have read in another order than PostgreSQL."""
    right = node.args.get("expression")
    if isinstance(right, exp.Not):
        right = right.this
    if isinstance(right, _TORN.get(type(node), ())):
        raise refused("Put parentheses around the operator that is meant first")


def members(text: str) -> list[str]:
    given = text.strip()
    if not (given.startswith("{") and given.endswith("}")) or any(c in given for c in '"\\'):
        raise refused(f'malformed array literal: "{text[:100]}"')
    inner = given[1:-1]
    if "{" in inner or "}" in inner:
        raise refused(f'malformed array literal: "{text[:100]}"')
    return [part.strip() for part in inner.split(",")] if inner.strip() else []


def member(text: str) -> Value:
    if text.upper() == "NULL":
        return Value(exp.null(), UNKNOWN)
    return Value(exp.Literal.string(text), UNKNOWN, quoted=text)

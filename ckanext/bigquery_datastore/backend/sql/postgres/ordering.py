"""Terms of an ORDER BY, and what else stands after OVER. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres import intervals
from ckanext.bigquery_datastore.backend.sql.postgres.kinds import UNKNOWN, Value, coerced, refused
from ckanext.bigquery_datastore.backend.sql.postgres.template import say


def order_terms(value: Value, node: exp.Expr) -> list[exp.Ordered]:
    if value.parts is not None:
        value = intervals.length(value)
    if node.args.get("with_fill"):
        raise refused("Invalid query AST element: Ordered with fill")
    how = {part: node.args.get(part) for part in ("desc", "nulls_first")}
    tree = coerced(value, "text") if value.kind == UNKNOWN else value.tree
    terms = [exp.Ordered(this=tree.copy(), **how)]
    if value.kind == "float8":
        terms.insert(0, exp.Ordered(this=say("IS_NAN(@a)", a=tree), **how))
    return terms


def inside(terms: Sequence[exp.Ordered]) -> list[exp.Ordered]:
    """Terms within OVER, where sqlglot does not write where NULL goes: as terms of their own."""
    found = []
    for term in terms:
        desc = bool(term.args.get("desc"))
        if bool(term.args.get("nulls_first")) is desc:
            is_null = say("@a IS NULL", a=term.this)
            found.append(exp.Ordered(this=is_null, desc=desc, nulls_first=not desc))
        # As BigQuery sorts NULL by itself: first, and last of what descends.
        found.append(exp.Ordered(this=term.this.copy(), desc=desc, nulls_first=not desc))
    return found


def frame(spec: exp.WindowSpec) -> exp.WindowSpec:
    kind = str(spec.args.get("kind") or "").upper()
    ends = [spec.args.get("start"), spec.args.get("end")]
    is_by_number = any(isinstance(end, exp.Expr) for end in ends)
    if (
        kind not in ("ROWS", "RANGE")
        or spec.args.get("exclude")
        or (kind == "RANGE" and is_by_number)
    ):
        raise refused("This frame of a window cannot be said in GoogleSQL")
    for end in ends:
        if isinstance(end, exp.Expr) and not (isinstance(end, exp.Literal) and end.is_int):
            raise refused("The frame of a window can only have whole numbers here")
    return spec.copy()
